"""Half-truths of graph shards: what is added is false, a constant wins nothing, and length alone decides nothing."""

import itertools
import json
import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from relpretrain.data.shards import ShardWriter
from relpretrain.scene_graph import Box
from relpretrain.synthetic.relations import true_relations
from relpretrain.synthetic.render import encode_png
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.in_shard import InShard

HALF_TRUTH = TASKS["half_truth"]
QUESTIONS = ("half-truth", "which", "addition")


def shards(folder, *graphs, size=(40, 8)):
    """A shard of graphs: names of things, and (subject, relation, object); their records may tell no size."""
    with ShardWriter(folder, 100) as writer:
        for number, (labels, relations) in enumerate(graphs):
            things = [{"label": label, "box": [9 * i, 0, 9 * i + 8, 8]} for i, label in enumerate(labels)]
            triplets = [dict(zip(("subject", "relation", "object"), r, strict=True)) for r in relations]
            record = {"width": size[0], "height": size[1], "entities": things, "relations": triplets}
            record = {name: value for name, value in record.items() if value is not None}
            writer.write(f"{number:03}", encode_png(np.full((8, 40, 3), number, dtype=np.uint8)), "png", record)
    return folder


def texts(source):
    return {split: [p.texts for p in puzzles] for split, puzzles in HALF_TRUTH.puzzles(Source(source)).items()}


class ByLength(ConstantScorer):
    """Prefers longer texts, or shorter ones."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def score(self, image_features, index, texts):
        return torch.tensor([[0.0, self.sign * len(text.split())] for text in texts])


def test_something_false_and_something_true_is_added(tmp_path):
    shards(
        tmp_path / "half_truth",
        (["cat", "red sofa"], [(0, "on", 1)]),
        (["bus", "dog"], [(1, "under", 0)]),
        (["man", "hat"], [(0, "wearing", 1)]),
    )
    found = texts(tmp_path)
    assert len(found["entities"]) == 3
    for things, (short, false, true) in zip(
        (("cat", "red sofa"), ("bus", "dog"), ("man", "hat")), found["entities"], strict=True
    ):
        assert short in things
        assert set(true.split(" and ")) == set(things)
        added = false.removeprefix(f"{short} and ")
        assert added in {"cat", "red sofa", "bus", "dog", "man", "hat"} - set(things)
    assert found["relations"] == [
        ("cat", "cat under red sofa", "cat on red sofa"),  # a word of these shards
        ("dog", "dog on bus", "dog under bus"),
        ("hat", "hat wearing man", "man wearing hat"),  # which nothing contradicts
    ]


@pytest.mark.parametrize("size", [(40, 8), (None, None), (40, None)])
def test_images_tell_their_size_where_records_do_not(tmp_path, size):
    shards(tmp_path / "validation", (["cat", "sofa"], [(0, "on", 1)]), (["bus", "dog"], [(1, "under", 0)]), size=size)
    assert [item.scale for item in TASKS["graphs"].items(Source(tmp_path))["validation"]] == [(40, 8)] * 2
    assert len(texts(tmp_path)["entities"]) == 2


def test_nothing_that_is_added_is_true_in_a_generated_world(world):
    """As the annotated boxes of the world tell."""
    asked = Counter()
    for split, puzzles in HALF_TRUTH.puzzles(Source(world)).items():
        for puzzle in puzzles:
            (image,), (short, false, true) = puzzle.images, puzzle.texts
            record = json.loads(image.shard_index.read(image.row).json)
            boxes = {thing["label"]: Box(*thing["box"]) for thing in record["entities"]}
            assert short in boxes
            if split == "entities":
                assert false.split(" and ")[1] not in boxes
                assert set(true.split(" and ")) <= boxes.keys()
            else:
                assert said(true) in told(boxes, record["width"])
                assert said(false) not in told(boxes, record["width"])
                assert said(false)[0] == short
            asked[split] += 1
    assert min(asked.values()) > 6


def said(text):
    """Subject, relation and object of a text of the generated world, whose things have two words."""
    words = text.split()
    return " ".join(words[:2]), " ".join(words[2:-2]), " ".join(words[-2:])


def told(boxes, size):
    """All that is true of things by their boxes."""
    return {(s, r, o) for s, o in itertools.permutations(boxes, 2) for r in true_relations(boxes[s], boxes[o], size)}


@pytest.mark.parametrize(("sign", "right"), [(0, (0, 0, 0)), (-1, (1, 0, 0)), (1, (0, 0, 1))])
def test_length_alone_wins_one_question_and_loses_another(tmp_path, sign, right):
    shards(tmp_path / "validation", (["cat", "sofa"], [(0, "on", 1)]), (["bus", "dog"], [(1, "under", 0)]))
    ready, _ = prepare(["half_truth"], Source(tmp_path))
    assert [part.split for part in ready] == ["entities", "relations"]
    for part in evaluate(ByLength(sign), ready):
        rows = {row.category: row for row in part.task.summarise(part.records, part.split).rows}
        assert tuple(rows) == QUESTIONS
        assert tuple(rows[name].accuracy for name in QUESTIONS) == right
        assert rows["half-truth"].details["ties"] == (2 if sign == 0 else 0)


def test_splits_are_chosen_and_images_have_their_names(tmp_path):
    shards(tmp_path / "half_truth", (["cat", "sofa"], [(0, "on", 1)]), (["bus", "dog"], [(0, "on", 1)]))
    ready, _ = prepare(["half_truth"], Source(tmp_path, splits=("entities",)))
    (part,) = evaluate(ConstantScorer(), ready)
    assert {record["image"] for record in part.records} == {"shard-000000/000", "shard-000000/001"}
    assert all(type(record["image"]) is str for record in part.records)


def test_a_scorer_that_does_not_look_is_shown_names(tmp_path):
    shards(tmp_path / "half_truth", (["cat", "sofa"], [(0, "on", 1)]), (["bus", "dog"], [(0, "on", 1)]))
    items = HALF_TRUTH.items(Source(tmp_path))["entities"]
    found, _ = HALF_TRUTH.locate(items, Source(tmp_path, blind=True))
    assert [item.image for item in found] == ["shard-000000/000", "shard-000000/001"]
    assert not any(isinstance(item.image, InShard) for item in found)


def test_graphs_that_training_uses_are_not_taken_for_held_out_ones(tmp_path):
    """A generated world has its training graphs in `graphs`, as a task is called."""
    shards(tmp_path / "graphs", (["cat", "sofa"], [(0, "on", 1)]))
    shards(tmp_path / "validation", (["bus", "dog"], [(0, "on", 1)]))
    assert [item.triplets[0][1].label for item in TASKS["graphs"].items(Source(tmp_path))["validation"]] == ["bus"]


def test_shards_without_a_half_truth_are_refused(tmp_path):
    shards(tmp_path / "half_truth", (["cat"], []))
    with pytest.raises(ValueError, match=r"No graph below .*half_truth \(1 \*\.tar shards found\) makes a half-truth"):
        HALF_TRUTH.items(Source(tmp_path))
    items = tmp_path / "items.json"
    items.write_text("{}")
    with pytest.raises(ValueError, match="'half_truth' reads a folder of shards"):
        HALF_TRUTH.items(Source(items))


def test_images_of_equal_names_in_two_shards_are_two(tmp_path):
    for name in "ab":
        shards(tmp_path / "half_truth" / name, (["cat", "sofa"], [(0, "on", 1)]), (["bus", "dog"], [(0, "on", 1)]))
    images = [item.image for item in HALF_TRUTH.items(Source(tmp_path))["entities"]]
    assert sorted(map(str, images)) == [f"{folder}/shard-000000/00{key}" for folder in "ab" for key in (0, 1)]
    assert len(set(images)) == 4
    again = pickle.loads(pickle.dumps(images[2]))
    assert again == images[2] != images[0]
    assert hash(again) == hash(images[2])
    assert again().size == (40, 8)
