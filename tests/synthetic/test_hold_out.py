import itertools
import json
from collections import Counter

import pytest
from PIL import Image

from relpretrain.synthetic import RELATIONS, World, generate
from relpretrain.synthetic.hold_out import NOTHING, canonical, choose_held_out, combinations_of
from tests.synthetic.reading import KINDS, open_png, relation_of, samples, seen_in, true

SPLITS = ("captions", "regions", "graphs", "validation")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NAMES = [f"{color} {shape}" for color in KINDS["colors"] for shape in KINDS["shapes"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"images_captions": 200, "images_regions": 60, "images_graphs": 200, "images_validation": 60}
    items = {"items_vsr": 90, "items_valse": 60, "items_svo": 45}
    dials = {"objects": (2, 3), "image_size": 40, "hold_out_pairs": 0.2, "hold_out_combinations": 0.3}
    return generate(tmp_path_factory.mktemp("world"), **sizes, **items, **dials, **KINDS, relational_captions=0.5)


@pytest.fixture(scope="module")
def held_out(folder):
    """Pairs as sets, and combinations in both of their forms."""
    made = json.loads((folder / "world.json").read_text())["held_out"]
    combinations = {tuple(c) for c in made["combinations"]}
    return {frozenset(p) for p in made["pairs"]}, combinations | {(o, OPPOSITE[r], s) for s, r, o in combinations}


@pytest.mark.parametrize("split", SPLITS)
def test_no_shard_shows_what_is_held_out(folder, held_out, split):
    pairs, combinations = held_out
    together, shown = set(), set()
    for png, record in samples(folder / split):
        seen = seen_in(open_png(png))
        boxes = {e["label"]: e["box"] for e in record["entities"]} if "entities" in record else {}
        assert not boxes or set(boxes) == set(seen)
        centres = {name: ((x0 + x1) / 2, (y0 + y1) / 2) for name, (x0, y0, x1, y1) in boxes.items()} or seen
        for one, other in itertools.permutations(centres, 2):
            together.add(frozenset((one, other)))
            for name in RELATIONS:
                far = max(abs(a - b) for a, b in zip(centres[one], centres[other], strict=True)) >= 0.2 * 40 + 1
                if far and true(centres, one, name, other, 2.01 if boxes else 2.4):
                    shown.add((one, name, other))
        texts = [*record.get("captions", ())]
        texts += [f"{record['entities'][r['subject']]['label']} {r['relation']} "
                  f"{record['entities'][r['object']]['label']}" for r in record.get("relations", ())]  # fmt: skip
        assert not {relation_of(text) for text in texts} & combinations
    assert not together & pairs
    assert not shown & combinations
    if split in ("captions", "graphs"):  # all the others come
        assert together == {frozenset(p) for p in itertools.combinations(NAMES, 2)} - pairs
        assert len(shown) > 0.8 * (len(together) * 8 - len(combinations))


def test_the_choice_holds_out_the_share_and_leaves_enough(held_out):
    pairs, combinations = held_out
    assert len(pairs) == 3  # 0.2 of 15
    assert len(combinations) == pytest.approx(0.3 * 12 * 8, abs=4)  # of 12 pairs, each 8 ways to say it
    lost = Counter(kind for pair in pairs for kind in pair)
    assert all(5 - number >= 2.5 for number in lost.values())
    assert not {frozenset((s, o)) for s, _, o in combinations} & pairs
    assert all((s, OPPOSITE[r], o) in combinations for s, r, o in combinations)
    for one, other in itertools.permutations(NAMES, 2):
        assert {r for s, r, o in combinations if (s, o) == (one, other)} != set(RELATIONS)


def test_the_seed_decides_what_is_held_out():
    kinds = World().kinds
    one, same, other = (choose_held_out(kinds, RELATIONS, 0.2, 0.3, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert choose_held_out(kinds, RELATIONS, 0, 0, 1) == NOTHING


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_every_kind_keeps_half_of_its_pairs(share):
    kinds = World(shapes=("square", "circle")).kinds
    for seed in range(10):
        pairs = choose_held_out(kinds, RELATIONS, share, 0, seed).pairs
        assert len(pairs) == round(share * 66)
        assert max(Counter(k for p in pairs for k in p).values()) <= 5.5


def test_one_composition_has_one_name():
    one, other = "red square", "blue circle"
    assert canonical(one, "left of", other) == canonical(other, "right of", one)
    assert canonical(one, "above", other) != canonical(other, "above", one)
    assert canonical(one, "near", other) == canonical(other, "near", one)
    assert len(combinations_of((one, other), RELATIONS)) == 4
    assert len(combinations_of((one, other), ("on", "carrying", "near"))) == 3
    assert combinations_of((one, "red circle"), ("inside", "on", "touching")) == ()  # red in red cannot be seen


def _texts(home):
    """(image, true text, false text or None) of every item on a relation."""
    for part in ("dev", "test"):
        for line in (home / f"vsr/synthetic/{part}.jsonl").read_text().splitlines():
            item = json.loads(line)
            yield item["image"], *((item["caption"], None) if item["label"] else (None, item["caption"]))
    for piece in ("relations", "actant-swap"):
        for item in json.loads((home / f"valse/{piece}.json").read_text()).values():
            yield item["image_file"], item["caption"], item["foil"]


@pytest.mark.parametrize("name", ["benchmarks", "held_out_pairs", "held_out_combinations"])
def test_texts_and_foils_of_probes_are_both_held_out_or_both_not(folder, held_out, name):
    pairs, combinations = held_out
    topics = Counter()
    for image, *texts in _texts(folder / name):
        seen = seen_in(Image.open(folder / name / "images" / image))
        for text, expected in zip(texts, (True, False), strict=True):
            if text is not None:
                said = relation_of(text)
                assert true(seen, *said) == expected
                assert (frozenset(said[::2]) in pairs) == (name == "held_out_pairs")
                assert (said in combinations) == (name == "held_out_combinations")
                topics[frozenset(said[::2]) if name == "held_out_pairs" else said] += 1
    if name != "benchmarks":
        assert set(topics) == (pairs if name == "held_out_pairs" else combinations)


@pytest.mark.parametrize("name", ["benchmarks", "held_out_pairs", "held_out_combinations"])
def test_svo_is_about_its_folders_compositions(folder, held_out, name):
    pairs, combinations = held_out
    alike = 0
    for line in (folder / name / "svo/test.jsonl").read_text().splitlines():
        item = json.loads(line)
        positive, negative = (tuple(item[key].split(",")) for key in ("pos_triplet", "neg_triplet"))
        assert (frozenset(positive[::2]) in pairs) == (name == "held_out_pairs")
        assert (positive in combinations) == (name == "held_out_combinations")
        assert name != "benchmarks" or not (frozenset(negative[::2]) in pairs or negative in combinations)
        if item["verb_neg"]:
            assert (frozenset(negative[::2]) in pairs) == (name == "held_out_pairs")
            assert (negative in combinations) == (name == "held_out_combinations")
        alike += (frozenset(negative[::2]) in pairs, negative in combinations) == (
            frozenset(positive[::2]) in pairs,
            positive in combinations,
        )
    assert alike >= 20  # of 45: not every kind has a held-out counterpart


def test_negative_images_show_no_held_out_pair(tmp_path):
    """Not even one of the thing that was put in and another one that stayed."""
    few = {"images_captions": 1, "images_regions": 1, "images_graphs": 1, "images_validation": 1, "items_vsr": 3}
    generate(tmp_path, **few, items_valse=1, items_svo=45, objects=3, image_size=40, hold_out_pairs=0.2, **KINDS)
    pairs = {frozenset(pair) for pair in json.loads((tmp_path / "world.json").read_text())["held_out"]["pairs"]}
    for path in (tmp_path / "benchmarks/images").glob("svo-*.png"):
        assert not any(frozenset(pair) in pairs for pair in itertools.combinations(seen_in(Image.open(path)), 2))


def test_the_scenes_of_benchmarks_show_nothing_held_out(folder, held_out):
    pairs, _ = held_out
    for path in (folder / "benchmarks/images").glob("*.png"):
        assert not any(frozenset(pair) in pairs for pair in itertools.combinations(seen_in(Image.open(path)), 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hold_out_pairs": 0.6}, "every kind is to stay in at least half.*Lower hold_out_pairs"),
        ({"hold_out_combinations": 0.7}, "only 30 can be held out.*Lower hold_out_combinations"),
        ({"hold_out_combinations": 0.2, "relations": ("left of", "right of")}, "a single pair of opposites"),
        ({"hold_out_pairs": 1.0}, "a fraction to hold out lies between 0 and 1"),
        ({"hold_out_pairs": 0.4, "objects": 5}, "No scene of 5 objects.*Lower hold_out_pairs"),
    ],
)
def test_what_cannot_be_held_out_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "world", **changes)
    assert not (tmp_path / "world").exists()
