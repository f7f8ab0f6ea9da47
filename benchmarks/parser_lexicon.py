"""Makes the word lists of the lexicon parser from FACTUAL's training rows and the name lists of Visual Genome and GQA.

`python -m benchmarks.parser_lexicon --data ../shared/realdata` writes the parser's `lexicon.json`. Parts of speech
are those that a spaCy pipeline (`--model`) gives the training captions; all else is counted in their graphs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import spacy
from spacy.tokens import Doc

from relpretrain.scene_graph.parse.graph_text import read_graph_text
from relpretrain.scene_graph.parse.lexicon.lemmas import noun_lemma, verb_lemma
from relpretrain.scene_graph.parse.lexicon.tokens import tokenise
from relpretrain.scene_graph.parse.lexicon.words import FILE, PREPOSITIONS, SIDES, listed
from relpretrain.scene_graph.parse.record import ParsedCaption
from relpretrain.sources.common.tables import table_rows

Tagged = list[tuple[str, str]]
Row = tuple[Tagged, ParsedCaption]

LEAST = 3
"""How often something must be seen to be listed."""

THINGS = listed("reflection background foreground game coat stand crest")
"""Nouns that graphs leave out often, but name things."""
PARTS_OF_LIVING = listed("arm hand finger leg foot head face mouth")
LIVING = listed(
    "actor actress artist athlete bartender biker boarder bride businessman businesswoman chef clown cook cop couple "
    "cowboy cyclist dancer daughter doctor employee family farmer father fireman fisherman gentleman groom guy husband "
    "musician mother nurse officer pedestrian photographer policeman runner sailor shopper singer soldier student "
    "teacher teen teenager tourist vendor waiter waitress wife adult friend cat dog horse cow bull sheep goat pig lamb "
    "calf pony donkey camel deer fox wolf lion tiger leopard panda koala kangaroo rabbit squirrel mouse rat monkey ape "
    "gorilla duck goose swan chicken rooster hen owl eagle parrot seagull pigeon penguin flamingo dolphin whale shark "
    "puppy kitten"
)
"""People and animals whom the training captions name seldom or call otherwise."""


def main() -> None:
    """Count, and write the file."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder with factual/ and vocab/")
    options.add_argument("--model", default="en_core_web_sm", help="spaCy pipeline that tags the captions")
    options.add_argument("--out", type=Path, default=FILE)
    args = options.parse_args()
    rows = training_rows(args.data / "factual" / "random_train.csv", args.model)
    names = read_names(args.data / "vocab")
    content = {
        "tags": tags(rows, names),
        "verbs": verbs(rows),
        **noun_pairs(rows, names),
        "attributes": attributes(rows),
        "plain": plain(rows),
        "quantities": quantities(rows),
        "holders": holders(rows),
        "animate": animate(rows),
        "worn": worn(rows),
    }
    text = json.dumps(content, ensure_ascii=False, indent=0, separators=(",", ":"))
    args.out.write_text(text.replace(",\n", ",") + "\n", encoding="utf-8")
    print({key: len(value) for key, value in content.items()}, f"{args.out.stat().st_size:,} bytes")


def training_rows(path: Path, model: str) -> list[Row]:
    """The captions with tagged words, and their graphs."""
    pipeline = spacy.load(model, exclude=["ner", "lemmatizer"])
    table = [row for _, row in table_rows(path, "FACTUAL rows", Counter(), columns=("caption", "scene_graph"))]
    docs = [Doc(pipeline.vocab, [token.text for token in tokenise(row["caption"])]) for row in table]
    tagged = ([(token.text, token.tag_) for token in doc] for doc in pipeline.pipe(docs, batch_size=512))
    return [(words, read_graph_text(row["scene_graph"])) for words, row in zip(tagged, table, strict=True)]


def read_names(folder: Path) -> set[str]:
    """Names of things in the vocabularies of GQA and Visual Genome."""
    names: set[str] = set()
    for file in ("gqa_lcgn_name.txt", "vg_bua_objects_vocab.txt", "vg150_object_list.txt"):
        for line in (folder / file).read_text(encoding="utf-8").splitlines():
            names.update(" ".join(name.lower().split()) for name in line.replace(".", "").split(","))
    return {name for name in names if name and name.replace(" ", "").isalpha()}


def tags(rows: list[Row], names: set[str]) -> dict[str, str]:
    """Words by their most frequent part of speech."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for words, _ in rows:
        for word, tag in words:
            if word.isalpha():
                seen[word][tag] += 1
    best = {word: counts.most_common(1)[0][0] for word, counts in seen.items() if counts.total() >= LEAST}
    named = Counter(word for _, graph in rows for e in graph.entities for word in [e.label.split()[-1]])
    doing = Counter(relation.relation.split()[0] for _, graph in rows for relation in graph.relations)
    for word in best:
        if best[word] == "VBG" and named[word] > doing[verb_lemma(word)]:
            best[word] = "NN"
    for name in names:
        if " " not in name:
            best.setdefault(name, "NN" if noun_lemma(name) == name else "NNS")
    by_tag: dict[str, list[str]] = defaultdict(list)
    for word in sorted(best):
        by_tag[best[word]].append(word)
    return {tag: " ".join(words) for tag, words in sorted(by_tag.items())}


def verbs(rows: list[Row]) -> list[str]:
    """Infinitives that relate things."""
    seen = Counter(relation.relation.split()[0] for _, graph in rows for relation in graph.relations)
    return sorted(word for word, n in seen.items() if word.isalpha() and word not in PREPOSITIONS)


def noun_pairs(rows: list[Row], names: set[str]) -> dict[str, list[str]]:
    """Two nouns in a row: which are the name of one thing, and which first ones describe the second."""
    whole: Counter[str] = Counter()
    split: Counter[str] = Counter()
    describes: Counter[str] = Counter()
    belongs: Counter[str] = Counter()
    for words, graph in rows:
        labels = {noun_lemma(entity.label).replace(" ", "") for entity in graph.entities}
        described = {(noun_lemma(e.label), attribute) for e in graph.entities for attribute in e.attributes}
        for (first, _), (second, tag) in pairwise(words):
            pair = f"{first} {noun_lemma(second)}"
            if any(label.endswith(pair.replace(" ", "")) for label in labels):
                whole[pair] += 1
                belongs[first] += 1
            elif tag.startswith("N"):
                split[pair] += 1
                describes[first] += (noun_lemma(second), first) in described
    compounds = {pair for pair, n in whole.items() if n >= 2 and n > split[pair]}
    adjectives = {word for words, _ in rows for word, tag in words if tag == "JJ"}
    rare = {name for name in names if " " in name and whole[name] >= split[name] and split[name] < LEAST}
    compounds |= {name for name in rare if name.split()[0] not in adjectives}
    compounds.add("t shirt")
    last: Counter[str] = Counter()
    for pair, n in whole.items():
        last[pair.split()[1]] += n
    for pair, n in split.items():
        last[pair.split()[1]] -= n
    nouns = {word for words, _ in rows for word, tag in words if tag.startswith("N")}
    modifiers = [word for word, n in describes.items() if n >= LEAST and n > belongs[word] and word in nouns]
    return {
        "compounds": sorted(compounds),
        "modifiers": sorted(modifiers),
        "kinds": sorted(word for word, n in last.items() if n >= 5),
    }


def attributes(rows: list[Row]) -> list[str]:
    """Descriptions of several words that captions hold as they are."""
    seen: Counter[str] = Counter()
    for words, graph in rows:
        text = f" {' '.join(word for word, _ in words)} "
        seen.update(a for entity in graph.entities for a in entity.attributes if " " in a and f" {a} " in text)
    return sorted(a for a, n in seen.items() if n >= LEAST and a.replace(" ", "").isalpha() and not a.endswith(" of"))


def plain(rows: list[Row]) -> list[str]:
    """Adjectives that graphs leave out."""
    kept: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for words, graph in rows:
        said = {word for e in graph.entities for text in (e.label, *e.attributes) for word in text.split()}
        for (word, tag), (_, after) in pairwise(words):
            if tag in ("JJ", "JJR", "JJS", "RB", "PDT", "DT") and after.startswith(("N", "J")) and word.isalpha():
                seen[word] += 1
                kept[word] += word in said
    return sorted(word for word, n in seen.items() if n >= 8 and kept[word] < 0.3 * n)


def quantities(rows: list[Row]) -> dict[str, str]:
    """Nouns before "of" that graphs leave out, or turn into an attribute."""
    ways: dict[str, Counter[str]] = defaultdict(Counter)
    for words, graph in rows:
        labels = {noun_lemma(entity.label) for entity in graph.entities}
        said = {attribute for entity in graph.entities for attribute in entity.attributes}
        for (word, tag), (after, _) in pairwise(words):
            if after == "of" and tag.startswith("N"):
                one = noun_lemma(word)
                way = next((way for way in (one, word, f"{word} of") if way in said), "")
                ways[one]["thing" if one in labels else way] += 1
    best = {word: counts.most_common(1)[0][0] for word, counts in ways.items() if counts.total() >= LEAST}
    return {word: way for word, way in sorted(best.items()) if way != "thing" and word not in SIDES | THINGS}


def holders(rows: list[Row]) -> list[str]:
    """Nouns whose "of" names what they have, rather than who has them."""
    has: Counter[str] = Counter()
    had: Counter[str] = Counter()
    for words, graph in rows:
        labels = [noun_lemma(entity.label) for entity in graph.entities]
        of = {noun_lemma(word) for (word, _), (after, _) in pairwise(words) if after == "of"}
        for relation in graph.relations:
            if relation.relation in ("have", "fill with", "with", "contain"):
                has.update(of & {labels[relation.subject]})
                had.update(of & {labels[relation.object]})
            elif relation.relation in ("in", "inside", "on"):
                has.update(of & {labels[relation.object]})
    return sorted(word for word, n in has.items() if n >= 2 and n > had[word])


def animate(rows: list[Row]) -> list[str]:
    """Nouns for those who do what only people and animals do."""
    seen: Counter[str] = Counter()
    for _, graph in rows:
        labels = [noun_lemma(entity.label).split()[-1] for entity in graph.entities]
        doing = ("wear", "eat", "ride", "look at", "watch", "swing", "walk on", "walk down", "play", "jump", "smile at")
        seen.update(labels[r.subject] for r in graph.relations if r.relation in doing)
    return sorted({word for word, n in seen.items() if n >= LEAST and word.isalpha()} - PARTS_OF_LIVING | LIVING)


def worn(rows: list[Row]) -> list[str]:
    """Nouns for what is worn."""
    seen: Counter[str] = Counter()
    for _, graph in rows:
        seen.update(graph.entities[r.object].label.split()[-1] for r in graph.relations if r.relation == "wear")
    words = {word for word, n in seen.items() if n >= LEAST and word.isalpha()}
    return sorted(words | {noun_lemma(word) for word in words})


if __name__ == "__main__":
    main()
