"""Graphs of every source, in a world as small as it can be."""

from dataclasses import replace

import pytest

from benchmarks.ablation import design, graphs, runs
from benchmarks.ablation.design import Run
from benchmarks.ablation.graphs import quality
from benchmarks.ablation.recipe import annotated_shards
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.sources.common.dropped import Dropped
from relpretrain.tagging.shards import read_shard

SEED = 0
FEW = {"images_captions": 400, "images_graphs": 16, "images_validation": 4, "shard_size": 4}
FEW |= {"items_vsr": 12, "items_valse": 6, "items_svo": 0, "items_retrieval": 4}


@pytest.fixture(scope="module")
def preset():
    world = {**design.graphs().worlds["main"], **FEW}
    return replace(design.graphs((SEED,)), worlds={"main": world}, steps={"main": 4}, processes=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory, preset):
    out = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "TAGGER_STEPS", 2)
        patched.setattr(graphs, "TAGGER_STEPS", 2)
        patched.setattr(graphs, "TAGGER_IMAGES", 3)
        patched.setattr(graphs, "NOISE", {"noise-0.1": 0.1, "noise-0.3": 1.0})
        runs.make_world(preset, "main", SEED, out)
        runs.make_graphs_of(preset, SEED, out)
    return out


def run_of(source):
    return Run("ALBEF", "+both", SEED, share=design.GRAPH_SHARE, graphs=source)


def samples_of(out, source):
    shards = annotated_shards(out / "worlds" / "main-0", run_of(source))
    return [sample for shard in shards for sample in read_shard(shard, Dropped())]


def worth(out, source):
    world = out / "worlds" / "main-0"
    return quality(annotated_shards(world, run_of(source)), RelationVocabulary.load(world / "relations.json"))


def test_sources_are_of_the_same_images_and_boxes(out):
    human = samples_of(out, "human")
    for source in ("parsed", "tagged", "mixed", "noise-0.1", "noise-0.3"):
        found = samples_of(out, source)
        assert [s.packed.key for s in found] == [s.packed.key for s in human]
        assert [s.packed.image for s in found] == [s.packed.image for s in human]
        labelled = [[(e.label, e.box, e.attributes) for e in s.graph.entities] for s in found]
        assert labelled == [[(e.label, e.box, e.attributes) for e in s.graph.entities] for s in human]
        assert all(len(s.graph.relations) <= 1 for s in found)


def test_quality_is_measured_against_what_boxes_show(out):
    assert worth(out, "human") == (1.0, 1.0, 8, 8)
    assert worth(out, "noise-0.3")[:2] == (0.0, 0.0)  # here, all of it is noise
    parsed = worth(out, "parsed")
    assert parsed.precision == 1.0  # captions are true
    assert parsed.recall == parsed.triplets / 8 > 0.5


def test_mixed_graphs_are_half_of_a_human_half_of_the_tagger(out):
    told = {source: [s.graph.relations for s in samples_of(out, source)] for source in ("human", "tagged", "mixed")}
    assert told["mixed"] == told["human"][:4] + told["tagged"][4:]


def test_the_tagger_sees_no_annotated_image(out):
    world = out / "worlds" / "main-0"
    seen = [sample.packed for sample in read_shard(str(world / "tagger_graphs" / "shard-000000.tar"), Dropped())]
    third = list(read_shard(str(world / "graphs" / "shard-000002.tar"), Dropped()))  # the fourth one calibrates
    assert seen == [sample.packed for sample in third[:3]]
    assert str(world / "tagger_graphs") in (world / "tagger.yaml").read_text()


def test_graphs_that_are_there_are_not_made_again(preset, out, monkeypatch):
    for name in ("generate", "relpretrain", "fit"):
        monkeypatch.setattr(graphs, name, lambda *a, **k: pytest.fail("made again"))
    runs.make_graphs_of(preset, SEED, out)


def test_a_run_waits_for_its_graphs(preset, tmp_path, monkeypatch):
    found = {}
    monkeypatch.setattr(runs, "carry_out", lambda jobs, processes, say: found.update({j.name: j.after for j in jobs}))
    runs.train_all(preset, tmp_path)
    assert found[run_of("tagged").name] == ("world of main, seed 0", "graphs of seed 0")
    assert found[run_of("human").name] == ("world of main, seed 0",)
    assert found["graphs of seed 0"] == ("world of main, seed 0",)
