"""Half-truths (CS-CLIP): does a true short text still match better when something false is added to it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from relpretrain.identity import number_of
from relpretrain.scene_graph import SceneGraph, triplet_text
from relpretrain.scene_graph.foils import RULES, Witness, triplet_foils
from relpretrain.zeroshot.analysis.rules import Rule, prefers
from relpretrain.zeroshot.tasks.common.base import Item, Unseen
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle
from relpretrain.zeroshot.tasks.common.in_shard import InShard, graphs_in, held_out_shards
from relpretrain.zeroshot.tasks.common.source import Record, Source, select_splits

SPLITS = ("entities", "relations")
"""What is added: another thing, or what a thing stands in."""

TRIES = 16
"""Names of things, or triplets, that are tried before an image is passed over."""

CARD = Card(
    task="half_truth",
    title="Half-truths",
    question="Does a true short text still match the image better when something false is added to it?",
    paper="Ours, from annotated graphs; the question is that of CS-CLIP, which asks it of a language model's texts.",
    licence="that of the shards",
    files=(
        "graph shards (`*.tar`) in `DIR/half_truth`, `DIR/validation`, `DIR/../validation`, or anywhere below `DIR`",
    ),
    source="`relpretrain data convert` or `synthetic`",
    images="in the shards",
    protocol="half_truth-1: half-truth: p(short) > p(short + false); which: p(short + true) > p(short + false); "
    'addition: p(short + true) > p(short). Entities: "a", "a and b"; relations: "a", "a relation b"; one of each an '
    "image; ties wrong",
    ties="wrong, and counted",
    constant="0 %",
    comparable="models on the same shards. A model that prefers short texts gets 100 % of half-truth and 0 % of "
    "addition, one that prefers long texts the other way round: read the three together",
    not_comparable="half-truth accuracies that are published: their texts and false parts are a language model's",
)


class HalfTruth(GridTask):
    """Three questions on a short true text, and on the same text with something false and with something true added.

    A split each for entities and relations. What is false is a foil by the image's graph (`scene_graph.foils`): a thing
    that it lacks, or a relation that one of its own contradicts, and else subject and object exchanged. Things and
    relations that are false are those of other images of the shards, as often as they are there.
    """

    card = CARD
    rules: tuple[Rule, ...] = (prefers("half-truth", 0, 1), prefers("which", 2, 1), prefers("addition", 2, 0))
    shape = (3, 1)

    def truth(self, record: Record) -> bool:
        """Of the first and the third text."""
        return not str(record["option"]).startswith("c1_")

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """One puzzle of each split per image whose graph has one.

        Raises:
            ValueError: If no graph has any.
        """
        own = source.at or source.path / self.name
        folder, shards = held_out_shards(source, self.name, own)
        graphs = [(image, graph) for image, graph, _ in graphs_in(folder, shards, "graphs")]
        words = _Words(graphs)
        splits: dict[str, list[Puzzle]] = {name: [] for name in SPLITS}
        for image, graph in graphs:
            rng = np.random.default_rng(number_of(str(image)))
            for split, texts in (("entities", words.entities(graph, rng)), ("relations", words.relation(graph, rng))):
                if texts is not None:
                    splits[split].append(Puzzle(f"{split}/{image!s}", texts, (image,)))
        found = {split: puzzles for split, puzzles in splits.items() if puzzles}
        if not found:
            raise ValueError(
                f"No graph below {folder} ({len(shards)} *.tar shards found) makes a half-truth; the task needs "
                "held-out shards with scene graphs."
            )
        return select_splits(found, source.splits)

    def locate(self, items: Sequence[Item], source: Source) -> tuple[list[Item], tuple[str, ...]]:
        """Images come with the shards: nothing to find."""
        named = [replace(i, records=tuple(r | {"image": str(i.image)} for r in i.records)) for i in items]
        return [replace(i, image=Unseen(i.image)) for i in named] if source.blind else named, ()


class _Words:
    """What there is to say in some graphs, and false additions to what is true of one of them."""

    def __init__(self, graphs: Sequence[tuple[InShard, SceneGraph]]) -> None:
        self._labels = [entity.label for _, graph in graphs for entity in graph.entities]
        said = Counter(relation.relation for _, graph in graphs for relation in graph.relations)
        self._relations = sorted(said)
        self._false: dict[str, list[str]] = {}

    def entities(self, graph: SceneGraph, rng: np.random.Generator) -> tuple[str, str, str] | None:
        """A thing, it and one that is not there, it and another one that is; None if there are no two things."""
        labels = list(dict.fromkeys(entity.label for entity in graph.entities))
        if len(labels) < 2:
            return None
        one, other = (labels[i] for i in rng.permutation(len(labels))[:2])
        witness = Witness(graph)
        for number in rng.integers(len(self._labels), size=TRIES).tolist():
            absent = self._labels[number]
            if not witness.named(absent):
                return one, f"{one} and {absent}", f"{one} and {other}"
        return None

    def relation(self, graph: SceneGraph, rng: np.random.Generator) -> tuple[str, str, str] | None:
        """A thing, a false triplet that begins with it, a true triplet; None if none is certainly false."""
        witness = Witness(graph)
        for number in rng.permutation(len(graph.relations))[:TRIES].tolist():
            relation = graph.relations[number]
            subject, target = (graph.entities[i].label for i in (relation.subject, relation.object))
            false = self._contradicting(relation.relation)
            for kind, short in (("rel_replace", subject), ("swap_so", target)):
                foils = triplet_foils(graph, relation, [kind], rng, witness=witness, instead=false)
                if kind in foils:
                    return short, foils[kind].text, triplet_text(graph, relation)
        return None

    def _contradicting(self, relation: str) -> list[str]:
        """Relations of the graphs that are false where this one is true."""
        if relation not in self._false:
            self._false[relation] = [name for name in self._relations if RULES.false_with(relation, name)]
        return self._false[relation]
