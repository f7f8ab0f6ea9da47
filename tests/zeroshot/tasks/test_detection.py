"""Relation detection with given boxes: HICO-DET's and Open Images' files, ranks against a loop, known scorers."""

import itertools
import random

import pytest
import torch

from relpretrain.zeroshot.evaluate import evaluate, prepare, summarise
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.detection_folders import write_detection_folders


@pytest.fixture
def folder(tmp_path):
    write_detection_folders(tmp_path)
    return tmp_path


class Listed:
    """Match logits drawn by chance."""

    def __init__(self, seed=0):
        self.rng = random.Random(seed)
        self.crops = []

    def encode_images(self, images):
        self.crops += [image.size for image in images]
        return list(images)

    def score(self, features, index, texts):
        values = [self.rng.random() for _ in texts]
        return torch.stack([torch.zeros(len(values)), torch.tensor(values)], dim=1)


def records(folder, name, scorer, *splits):
    ready, _ = prepare([name], Source(folder, splits=splits))
    (scored,) = evaluate(scorer, ready)
    return scored.records


def test_reads_hico(folder):
    (items,) = TASKS["hico_relations"].items(Source(folder)).values()
    assert [item.graph.names() for item in items] == [
        [("person", "riding", "horse"), ("person", "sitting on", "horse"), ("person", "holding", "cup")],
        [("person", "milking", "horse"), ("person", "feeding", "horse")],
    ]
    assert len(items[0].relations) == 117
    assert items[0].ends().tolist() == [[0, 1], [0, 2]]  # people alone do things
    assert items[1].ends().tolist() == [[0, 1], [0, 2], [0, 3], [3, 0], [3, 1], [3, 2]]
    assert items[0].graph.zero_shot == (False, False, False)
    assert items[1].graph.zero_shot == (True, True)
    # Of four seen combinations a fifth, one, is held out: of the rarest, and of the most frequent, that may be.
    assert items[0].groups == (("non-rare",), ("rare",), ("non-rare", "unseen, non-rare-first"))
    assert items[1].groups == (("rare",), ("rare",))


def test_reads_open_images(folder):
    (items,) = TASKS["open_images_relations"].items(Source(folder)).values()
    assert items[0].graph.names() == [("Man", "inside of", "Car"), ("Car", "holds", "Man")]
    assert items[0].relations == ("holds", "inside of")
    assert items[0].ends().tolist() == [[0, 1], [1, 0]]
    assert items[0].groups == ()
    scorer = Listed()
    records(folder, "open_images_relations", scorer)
    assert scorer.crops == [(16, 16)] * 2  # fractions became pixels: both boxes together are the whole image


@pytest.mark.parametrize("name", ["hico_relations", "open_images_relations"])
@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_those_of_a_loop(folder, name, seed):
    found = records(folder, name, Listed(seed=seed))
    again, number = Listed(seed=seed), 0
    for item in next(iter(TASKS[name].items(Source(folder)).values())):
        ends, labels = item.ends().tolist(), item.graph.labels
        asked = [(row, f"{labels[s]} {r} {labels[o]}") for row, (s, o) in enumerate(ends) for r in item.relations]
        logits = again.score(None, [row for row, _ in asked], [text for _, text in asked])[:, 1].tolist()
        scores = dict(zip(itertools.product(range(len(ends)), item.relations), logits, strict=True))
        for s, o, relation in item.graph.triplets:
            own = scores[ends.index([s, o]), relation]
            rank = sum(value >= own for value in scores.values())
            assert found[number]["free_rank"] == (rank if rank <= 100 else None)
            number += 1
    assert number == len(found)


def test_a_scorer_that_knows_gets_all_and_a_constant_nothing(folder):
    items = next(iter(TASKS["hico_relations"].items(Source(folder)).values()))
    truths = {" ".join(names) for item in items for names in item.graph.names()}

    class Knowing(Listed):
        def score(self, features, index, texts):
            return torch.tensor([[0.0, float(text in truths)] for text in texts])

    ready, _ = prepare(["hico_relations"], Source(folder))
    tables = {table.title: table for table in summarise(evaluate(Knowing(), ready))}
    free = tables["hico_relations all without graph constraint"]
    assert [row.accuracy for row in free.rows] == [1.0] * len(free.rows)
    assert {title.removeprefix("hico_relations all ") for title in tables} == {
        *("without graph constraint", "with graph constraint", "by relation"),
        *(f"{group} without graph constraint" for group in ("rare", "non-rare", "unseen, non-rare-first")),
    }
    for table in summarise(evaluate(ConstantScorer(), ready)):
        assert table.overall.accuracy == 0, table.title


def test_what_decides_is_the_rank_without_graph_constraint(folder):
    task = TASKS["hico_relations"]
    found = records(folder, "hico_relations", Listed())
    outcomes = task.outcomes(found)
    for record in found:
        assert outcomes[record["id"]].correct == (record["free_rank"] is not None and record["free_rank"] <= 50)
    assert all(task.recognises(record) and not TASKS["predcls"].recognises(record) for record in found)


def test_only_annotated_pairs_if_asked_for(folder):
    found = records(folder, "hico_relations", Listed(), "annotated")
    assert {record["pairs"] for record in found} == {"annotated"}


def test_missing_files_are_told(tmp_path):
    (tmp_path / "hico_relations").mkdir()
    (tmp_path / "hico_relations" / "x.json").write_text("[]")
    with pytest.raises(ValueError, match=r"holds no test_hico\.json"):
        TASKS["hico_relations"].items(Source(tmp_path))
