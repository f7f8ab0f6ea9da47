"""Streams of graphs whose triplets are not all certain, and whose entities have not all a place."""

import json

import numpy as np
import pytest
import torch

from relpretrain.data import checks
from relpretrain.data.graph_loader import graph_loader
from relpretrain.data.pipeline.collate import collate
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.pipeline.transforms import augment
from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import with_defaults
from relpretrain.data.shards.manifest import manifests
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.errors import BadSample, ConfigError, TooManyBadSamples
from relpretrain.objectives import MRC, VSG, TextFoil
from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from tests.data.small import picture, record, stream, tokenizer


def doubtful(i=0):
    """The record of `small`, in which half of the triplets are doubtful, and the tree has no box."""
    content = record(i)
    del content["entities"][2]["box"]
    for relation, confidence in zip(content["relations"], (0.8, 0.2, 0.5), strict=True):
        relation |= {"confidence": confidence, "source": "p 1"}
    return content


@pytest.fixture
def shards(tmp_path):
    """Six samples: two with boxes, two partly without, two without any."""
    with ShardWriter(tmp_path / "s") as writer:
        for i in range(6):
            content = record(i) if i < 2 else doubtful(i)
            if i >= 4:
                content["relations"] = content["relations"][1:]
            writer.write(f"k{i}", picture(i), "png", content)
    return str(tmp_path / "s")


def sample(content):
    graph = SceneGraph.from_json(content, 40, 30)
    return Sample("d/s/k", torch.zeros(3, 30, 40, dtype=torch.uint8), "1", "small", content["captions"], graph)


def augmented(content, **options):
    of = stream("graphs", "", min_scale=1.0, flip=0.0, color=False, **options)
    return augment(sample(content), 32, of, np.random.default_rng(0))


def test_relations_below_a_confidence_are_left_out_and_counted():
    _, kept, lost = augmented(doubtful(), min_confidence=0.5)
    assert [r.confidence for r in kept.graph.relations] == [0.8, 0.5]
    assert lost == {"relation_below_confidence": 1}
    assert augmented(doubtful()).sample.graph.relations == sample(doubtful()).graph.relations
    assert augmented(record(), min_confidence=1.0).lost == {}  # what people say is certain
    with pytest.raises(BadSample) as caught:
        augmented(doubtful(), min_confidence=0.9)
    assert caught.value.reason == "excluded_by_confidence"
    content = doubtful()
    for relation, confidence in zip(content["relations"], (0.2, 0.8, 0.8), strict=True):
        relation["confidence"] = confidence
    assert augmented(content, min_confidence=0.5).lost == {"relation_below_confidence": 1}
    with pytest.raises(BadSample):  # what is sure enough has no pair of boxes
        augmented(content, min_confidence=0.5, boxed=True)


def test_a_stream_draws_what_its_objectives_can_use(shards):
    entries = list(manifests([f"{shards}/shard-000000.tar"]).values())
    mrc, vsg = MRC(RelationVocabulary(["on", "beside"])), VSG()
    for objectives, expected in ((["vsg"], 6), (["mrc"], 4), (["vsg", "mrc"], 6)):
        of = with_defaults(stream("graphs", shards, objectives=objectives), {"vsg": vsg, "mrc": mrc})
        counts, never = eligible_counts({"g": of}, {"g": {"small": entries}})
        assert counts["g"]["small"].tolist() == [expected]
        assert never["g", "small"] == ({"without a relation between two boxes": 2} if expected == 4 else {})
    of = with_defaults(stream("graphs", shards, objectives=["mrc"], boxed=False), {"mrc": mrc})
    assert of.need == "graphs"


@pytest.fixture
def write(tmp_path):
    loaded = load_tokenizer(tokenizer(tmp_path))

    def batch(*contents, **options):
        of = stream("graphs", "", relations_per_image=4, max_tokens=40, **options)
        writer = TextWriter(of, TextEncoder(loaded, of.max_tokens))
        rng = np.random.default_rng(0)
        made = [writer(torch.zeros(3, 30, 40), sample(content), rng) for content in contents]
        return collate("graphs", made, loaded.pad_token_id)

    return batch


def test_vsg_takes_any_relation_and_mrc_pairs_of_boxes(write):
    batch = write(doubtful())
    assert batch.pairs.text.attention_mask.sum() > 12  # three triplets
    assert batch.relations == ("beside",)
    assert len(batch.entities) == 2
    content = doubtful()
    content["relations"] = content["relations"][1:]
    batch = write(content)
    assert (batch.relations, len(batch.entities)) == ((), 0)
    assert batch.weights is None


def test_weights_are_confidences(write):
    batch = write(doubtful(), record(), confidence_weights=True)
    assert batch.pairs.weights.tolist() == pytest.approx([0.5, 1.0])  # the mean of a text's triplets
    sure = [0.8 if n == "beside" and i < 2 else 1.0 for n, i in zip(batch.relations, batch.subjects, strict=True)]
    assert batch.weights.tolist() == pytest.approx(sure)
    assert write(record()).pairs.weights is None
    moved = batch.to("cpu")
    assert torch.equal(moved.weights, batch.weights)


def test_weights_that_no_objective_uses_are_told():
    known = {"vsg": VSG(), "foils": TextFoil("negclip")}
    told = checks.objectives({"g": stream("graphs", "x", objectives=["foils"], confidence_weights=True)}, known)
    assert told == [
        "Stream 'g': confidence_weights=true weighs texts of VSG and triplets of MRC, and nothing of foils. Leave it "
        "out, or add vsg."
    ]
    for names in (["vsg"], ["foils", "vsg"]):
        assert checks.objectives({"g": stream("graphs", "x", objectives=names, confidence_weights=True)}, known) == []


def test_the_loader_of_foreign_scripts_takes_the_same_options(shards, tmp_path):
    still = {"min_scale": 1.0, "flip": 0.0, "color": False, "endless": False}
    loader = graph_loader(shards, tokenizer(tmp_path), 2, 32, **still, confidence_weights=True)
    assert sum(len(b) for b in loader) == 6
    loader = graph_loader(shards, tokenizer(tmp_path), 2, 32, **still, boxed=True)
    assert sum(len(b) for b in loader) == 4
    loader = graph_loader(shards, tokenizer(tmp_path), 2, 32, **still, min_confidence=0.9)
    batches = list(loader)
    assert {key[-2:] for batch in batches for key in batch.keys} == {"k0", "k1"}  # others come in their places
    assert {reason for batch in batches for _, reason, _ in batch.skipped} == {"excluded_by_confidence"}
    with pytest.raises(ConfigError, match="min_confidence=2 must be a fraction between 0 and 1"):
        graph_loader(shards, tokenizer(tmp_path), 2, 32, min_confidence=2)


def test_a_confidence_that_no_sample_has_is_named(tmp_path):
    with ShardWriter(tmp_path / "s") as writer:
        for i in range(3):
            writer.write(f"k{i}", picture(i), "png", doubtful(i))
    loader = graph_loader(str(tmp_path / "s"), tokenizer(tmp_path), 2, 32, min_confidence=0.9)
    with pytest.raises(TooManyBadSamples, match=r"\(excluded_by_confidence\), \.\.\.; min_confidence=0.9 leaves too"):
        next(iter(loader))


def test_the_remedy_is_that_of_the_samples_drawn_last(tmp_path):
    """The first sample is on the list, all others are broken: the list is not what is wrong."""
    with ShardWriter(tmp_path / "s") as writer:
        for i in range(40):
            writer.write(f"k{i}", picture(i) if i == 0 else b"none", "png", record(i))
    Exclusion(frozenset([record(0)["image_id"]])).save(tmp_path / "list.json")
    exclude, whole = str(tmp_path / "list.json"), {"max_bad_fraction": 1.0}
    loader = graph_loader(str(tmp_path / "s"), tokenizer(tmp_path), 1, 32, exclude=exclude, **whole)
    step = next(step for step in range(40) if loader.schedule.rows(step)[0].row == 0)
    loader.seek(step)
    with pytest.raises(TooManyBadSamples, match=r"look at it with `relpretrain data doctor`"):
        next(iter(loader))


def test_a_stream_of_pairs_without_any_is_told_before_training(tmp_path):
    with ShardWriter(tmp_path / "s") as writer:
        for i in range(3):
            content = doubtful(i)
            content["relations"] = content["relations"][1:]
            writer.write(f"k{i}", picture(i), "png", json.loads(json.dumps(content)))
    with pytest.raises(ConfigError, match=r"needs samples with relations between two boxes.*0 with relations between"):
        graph_loader(str(tmp_path / "s"), tokenizer(tmp_path), 2, 32, boxed=True)
