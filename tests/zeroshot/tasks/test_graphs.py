from collections import Counter

import pytest
import torch

from relpretrain.checkpoints.checkpoint import load
from relpretrain.objectives import MRC, RelationTagger
from relpretrain.zeroshot.scorers import ConstantScorer, MatchScorer
from relpretrain.zeroshot.tasks.common.source import Source
from relpretrain.zeroshot.tasks.relations.graphs import GraphProbes, _batch

GRAPHS = GraphProbes()


@pytest.fixture
def scorer(checkpoint):
    loaded = load(checkpoint)
    return MatchScorer(loaded.backbone, loaded.preprocess, objectives=loaded.objectives, batch_size=8)


@pytest.fixture
def items(world):
    return GRAPHS.items(Source(world))["validation"]


def test_every_held_out_triplet_is_asked_once_by_each_probe(scorer, items):
    records = GRAPHS.score(scorer, items)
    triplets = [(number, relation) for item in items for number, _, relation, _ in item.triplets]
    assert len(items) == 12
    for probe in ("mrc", "words"):
        assert sorted((r["id"], r["label"]) for r in records if r["probe"] == probe) == sorted(triplets)
    table = GRAPHS.summarise(records, "validation")
    majority = Counter(relation for _, relation in triplets).most_common(1)[0][1] / len(triplets)
    for row in table.rows:
        assert row.n == len(triplets)
        assert row.details == {"chance": 0.25, "majority": majority}
        assert row.low <= row.accuracy <= row.high


def test_held_out_shards_are_found_beside_the_benchmarks(world, items):
    assert len(GRAPHS.items(Source(world / "benchmarks"))["validation"]) == len(items)


def test_answers_do_not_depend_on_the_batch(scorer, items):
    together = GRAPHS.score(scorer, items)
    scorer.batch_size = 4
    alone = GRAPHS.score(scorer, items)
    key = lambda record: (record["probe"], record["id"])  # noqa: E731
    assert sorted(together, key=key) == sorted(alone, key=key)


def test_exactly_the_words_of_the_relation_are_masked(scorer, items):
    batch, labels = _batch(scorer, items)
    tokenizer = scorer.preprocess.tokenizer
    triplets = [triplet for item in items for triplet in item.triplets]
    for row, (_, subject, relation, target) in enumerate(triplets):
        words = tokenizer.decode(batch.pairs.text.input_ids[row][batch.pairs.text.attention_mask[row]].tolist()).split()
        masks = ["[MASK]"] * len(relation.split())
        assert words == ["[CLS]", *subject.label.split(), *masks, *target.label.split(), "[SEP]"]
        assert tokenizer.decode(labels[row][labels[row] >= 0].tolist()) == relation
        assert batch.entities.boxes[batch.subjects[row]].tolist() == pytest.approx(share(subject.box), abs=1e-6)
        assert batch.entities.boxes[batch.objects[row]].tolist() == pytest.approx(share(target.box), abs=1e-6)


def share(box, size=32):
    x_min, y_min, x_max, y_max = box
    return [(x_min + x_max) / 2 / size, (y_min + y_max) / 2 / size, (x_max - x_min) / size, (y_max - y_min) / size]


class Oracle(MRC):
    """An MRC head that knows the answers."""

    def logits(self, features):
        index = torch.tensor([self.vocabulary.index(relation) for relation in features.batch.relations])
        return torch.eye(len(self.vocabulary))[index]


def test_right_answers_count(scorer, items, monkeypatch):
    scorer.objectives = {"mrc": Oracle(scorer.objectives["mrc"].vocabulary)}
    wanted = []
    for start in range(0, len(items), 2):
        _, labels = _batch(scorer, items[start : start + 2])
        wanted.append(labels[labels >= 0])
    answers = iter(wanted)
    size = len(scorer.preprocess.tokenizer)
    monkeypatch.setattr(scorer.backbone, "word_logits", lambda fused: torch.eye(size)[next(answers)])
    table = GRAPHS.summarise(GRAPHS.score(scorer, items))
    assert [row.accuracy for row in table.rows] == [1, 1]


def test_one_wrong_word_of_a_relation_is_wrong(scorer, items, monkeypatch):
    unknown = scorer.preprocess.tokenizer.convert_tokens_to_ids("of")
    size = len(scorer.preprocess.tokenizer)
    monkeypatch.setattr(scorer.backbone, "word_logits", lambda fused: torch.eye(size)[[unknown] * len(fused)])
    records = [r for r in GRAPHS.score(scorer, items) if r["probe"] == "words"]
    assert any(r["label"] == "left of" for r in records)
    assert not any(r["correct"] for r in records)


def test_without_a_head_only_words_are_asked(scorer, items):
    scorer.objectives = {}
    assert {record["probe"] for record in GRAPHS.score(scorer, items)} == {"words"}


def test_a_tagger_is_no_mrc(scorer, items):
    tagger = RelationTagger(scorer.objectives["mrc"].vocabulary)
    tagger.attach(scorer.backbone)
    wanted = GRAPHS.score(scorer, items[:4])
    scorer.objectives = {"tagger": tagger, **scorer.objectives}
    assert GRAPHS.score(scorer, items[:4]) == wanted
    scorer.objectives = {"tagger": tagger}
    assert {record["probe"] for record in GRAPHS.score(scorer, items[:4])} == {"words"}


def test_what_cannot_be_probed_is_said(items, tmp_path):
    with pytest.raises(ValueError, match="needs a MatchScorer, got ConstantScorer"):
        GRAPHS.score(ConstantScorer(), items)
    with pytest.raises(ValueError, match=r"No triplets below .* \(0 \*.tar shards found\)"):
        GRAPHS.items(Source(tmp_path))
