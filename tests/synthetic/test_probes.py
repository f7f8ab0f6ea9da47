import itertools
import json
import re
from collections import Counter

import pytest
from PIL import Image

from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.synthetic import generate, wording
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.synthetic.reading import KINDS, open_png, relation_of, samples, seen_in, true

FOLDERS = ("benchmarks", "held_out_pairs", "held_out_combinations")
NUMBERS = {"two": 2, "three": 3, "four": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"images_captions": 200, "images_regions": 10, "images_graphs": 40, "images_validation": 10}
    items = {"items_vsr": 30, "items_valse": 60, "items_svo": 45, "items_retrieval": 50, "items_paragraphs": 60}
    dials = {"objects": (2, 4), "image_size": 48, "hold_out_pairs": 0.1, "hold_out_combinations": 0.2, "seed": 1}
    dials |= {"counting_captions": 0.2, "one_corpus": True, "shard_size": 20}
    return generate(tmp_path_factory.mktemp("world"), **sizes, **items, **dials, **KINDS)


def _constant(task, items):
    return task.summarise([{**record, "score": 0.5} for item in items for record in item.records])


def _items(name, source, split=""):
    """A task's items, all of whose images are there."""
    items = TASKS[name].items(source)[split]
    assert len(TASKS[name].locate(items, source)[0]) == len(items)
    return items


@pytest.mark.parametrize("name", FOLDERS)
def test_the_harness_reads_every_folder_and_a_constant_scorer_wins_nothing(folder, name):
    source = Source(folder / name)
    for task, number in (("valse", 5 * 60), ("svo", 2 * 45)):
        items = _items(task, source)
        assert len(items) == number
        assert _constant(TASKS[task], items).overall.correct == 0
    for split, number in (("synthetic/dev", 10), ("synthetic/test", 20)):
        items = _items("vsr", source, split)
        assert len(items) == number
        assert _constant(TASKS["vsr"], items).overall.correct == number // 2


@pytest.mark.parametrize("name", FOLDERS)
def test_svo_sentences_are_true_of_one_image_and_false_of_the_other(folder, name):
    rows = [json.loads(line) for line in (folder / name / "svo/test.jsonl").read_text().splitlines()]
    for row in rows:
        positive, negative = (
            seen_in(Image.open(folder / name / "images" / row[key])) for key in ("pos_image", "neg_image")
        )
        said, instead = (tuple(row[key].split(",")) for key in ("pos_triplet", "neg_triplet"))
        assert relation_of(row["caption"]) == said
        assert true(positive, *said)
        assert not true(negative, *said)
        assert true(negative, *instead)
        flags = [row[key] for key in ("subj_neg", "verb_neg", "obj_neg")]
        assert flags == [a != b for a, b in zip(said, instead, strict=True)]
        assert sum(flags) == 1
        assert len(positive) == len(negative)
    counts = Counter(tuple(row[key] for key in ("subj_neg", "verb_neg", "obj_neg")) for row in rows)
    assert set(counts.values()) == {15}


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_caption_of_a_gallery_is_of_one_image(folder, split):
    items = _items("coco_retrieval", Source(folder), split)
    world = json.loads((folder / "world.json").read_text())
    kinds = [f"{color} {shape}" for color in world["colors"] for shape in world["shapes"]]
    parted = {frozenset(pair) for pair in world["held_out"]["pairs"]}
    possible = [
        things
        for number in (2, 3, 4)
        for things in itertools.combinations(kinds, number)
        if not any(frozenset(pair) in parted for pair in itertools.combinations(things, 2))
    ]
    assert len({item.texts for item in items}) == len(items) == len(possible) < 50
    assert len(items) == world["galleries"]["retrieval"][split]
    for item in items:
        assert item.texts[0].split(" and ") == sorted(seen_in(Image.open(folder / "benchmarks/images" / item.image)))


def test_galleries_are_as_large_as_asked_where_the_world_is_rich(tmp_path):
    none = dict.fromkeys(("images_captions", "images_regions", "images_graphs", "images_validation"), 1)
    generate(tmp_path, **none, items_vsr=3, items_valse=1, items_retrieval=30, objects=3, shapes=("square", "cross"))
    assert [len(i) for i in TASKS["coco_retrieval"].items(Source(tmp_path)).values()] == [30, 30]
    assert not (tmp_path / "benchmarks/paragraphs").exists()


@pytest.mark.parametrize("split", ["val", "test"])
def test_paragraphs_tell_all_that_is_there_and_differ(folder, split):
    items = _items("paragraphs", Source(folder), split)
    assert len({item.texts for item in items}) == len(items) == 60
    things = Counter()
    for item in items:
        seen = seen_in(Image.open(folder / "benchmarks/images" / item.image))
        first, *others = re.findall(r"[^.]+\.", item.texts[0])
        assert first.strip(".").lower().split(" and ") == sorted(seen)
        assert others
        assert len({frozenset(relation_of(text.strip())[::2]) for text in others}) == len(others)
        assert all(true(seen, *relation_of(text.strip())) for text in others)
        things[first] += 1
    assert max(things.values()) > 1  # the same things stand otherwise


def test_counts_are_true_in_captions_and_probes(folder):
    number = 0
    for png, record in samples(folder / "captions"):
        if said := re.fullmatch(r"There are exactly (\w+) shapes\.", record["captions"][0]):
            number += 1
            assert NUMBERS[said[1]] == len(seen_in(open_png(png)))
    assert 0.1 < number / 200 < 0.3
    told = Counter()
    items = json.loads((folder / "benchmarks/valse/counting-small-quant.json").read_text()).values()
    for item in items:
        there = len(seen_in(Image.open(folder / "benchmarks/images" / item["image_file"])))
        caption, foil = (NUMBERS[item[key].split()[3]] for key in ("caption", "foil"))
        assert (caption, foil) == (int(item["classes"]), int(item["classes_foil"]))
        assert caption == there != foil
        told[caption] += 1
        told[foil] -= 1
    assert set(told) == {2, 3, 4}
    assert max(map(abs, told.values())) < 20  # the number alone tells nothing


def test_a_single_shape_is_counted_by_its_name(tmp_path):
    none = dict.fromkeys(("images_captions", "images_regions", "images_graphs", "images_validation"), 4)
    generate(tmp_path, **none, items_vsr=3, items_valse=1, objects=(2, 3), counting_captions=1.0, relational_captions=0)
    texts = {c for _, record in samples(tmp_path / "captions") for c in record["captions"]}
    assert texts <= {"There are exactly two squares.", "There are exactly three squares."}
    assert json.loads((tmp_path / "world.json").read_text())["objects"] == [2, 3]


@pytest.mark.parametrize(
    ("shapes", "called"),
    [(("square",), "squares"), (("cross",), "crosses"), (("square", "cross"), "shapes")],
)
def test_shapes_in_the_plural(shapes, called):
    assert wording.count(2, shapes) == f"There are exactly two {called}."


def test_numbers_of_objects_are_drawn_evenly(folder):
    counts = Counter(len(record["entities"]) for _, record in samples(folder / "graphs"))
    assert set(counts) == {2, 3, 4}
    assert max(counts.values()) <= 25


def test_graphs_and_regions_of_one_corpus_are_of_its_first_images(folder):
    captions = list(samples(folder / "captions"))
    for split, number in (("graphs", 40), ("regions", 10)):
        others = list(samples(folder / split))
        assert len(others) == number
        for (png, record), (same, own) in zip(captions, others, strict=False):
            assert png == same
            assert record["image_id"] == own["image_id"]
            assert "captions" not in own
    assert sorted(p.name for p in (folder / "graphs").glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    assert len(list((folder / "captions").glob("*.tar"))) == 10


def test_the_tokenizer_knows_every_word_of_the_probes(folder):
    encoder = TextEncoder(load_tokenizer(folder / "tokenizer"), 99)
    found = [TASKS[task].items(Source(folder)) for task in ("valse", "svo", "coco_retrieval", "paragraphs")]
    texts = [text for splits in found for items in splits.values() for item in items for text in item.texts]
    for text in set(texts):
        words = [w for w in encoder.caption(text).words if w >= 0]
        assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counting_captions": 0.1}, "every scene has 2 objects"),
        ({"counting_captions": 0.8, "relational_captions": 0.4, "objects": (2, 3)}, "more than all"),
        ({"objects": (3, 2)}, "the largest number comes last"),
        ({"one_corpus": True, "images_captions": 10, "images_graphs": 20, "images_regions": 1}, "images_graphs is 20"),
        ({"shard_size": 0}, "samples_per_shard=0 must be at least 1"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "world", **changes)
    assert not (tmp_path / "world").exists()
