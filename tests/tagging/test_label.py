import json
import math
import shutil
import tarfile
from dataclasses import replace

import pytest
import torch

from relpretrain.cli import main
from relpretrain.data.shards import ShardWriter
from relpretrain.scene_graph import SceneGraph
from relpretrain.sources.common.dropped import Dropped
from relpretrain.tagging.head import HeadTagger
from relpretrain.tagging.label import tag
from relpretrain.tagging.proposals import every_pair
from relpretrain.tagging.shards import read_shard


def records(folder):
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {m.name: json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")}
    return found


def images(folder):
    with tarfile.open(sorted(folder.glob("*.tar"))[0]) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if not m.name.endswith(".json")}


def label(shards, checkpoint, out, *options):
    return main(["data", "label", str(shards), "--tagger", str(checkpoint), "--out", str(out), *options])


@pytest.fixture(scope="module")
def labelled(world, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("label") / "out"
    assert label(world / "regions", checkpoint, out, "--threshold", "0", "--top-k", "1") == 0
    return out


def test_boxes_get_the_best_relations_of_each_pair(labelled, world, loaded):
    before, after = records(world / "regions"), records(labelled)
    assert before.keys() == after.keys()
    assert images(labelled) == images(world / "regions")
    tagger = HeadTagger(loaded)
    samples = [s for path in sorted((world / "regions").glob("*.tar")) for s in read_shard(str(path), Dropped())]
    for sample in samples:
        asked = every_pair(sample.graph, tagger.vocabulary.names)
        (scores,) = tagger.scores([sample.image], [sample.graph], [asked])  # one by one: as in batches
        record = after[f"{sample.packed.key}.json"]
        assert record["entities"] == before[f"{sample.packed.key}.json"]["entities"]
        assert len(record["relations"]) == len(asked)
        for relation, pair, values in zip(record["relations"], asked, scores, strict=True):
            assert (relation["subject"], relation["object"]) == (pair.subject, pair.object)
            assert relation["relation"] == pair.relations[values.index(max(values))]
            assert relation["confidence"] == pytest.approx(max(values), abs=2e-6)
            assert relation["source"] == "tagger head"
        SceneGraph.from_json(record, 32, 32)


@pytest.mark.parametrize("total", [1, 3])
def test_tasks_give_the_same_bytes(labelled, world, checkpoint, tmp_path, total):
    out = tmp_path / "tasks"
    for number in range(total):
        options = ("--threshold", "0", "--top-k", "1", "--task", f"{number}/{total}")
        assert label(world / "regions", checkpoint, out, *options) == 0
    assert main(["data", "merge", str(out)]) == 0
    assert {p.name: p.read_bytes() for p in out.glob("*.tar")} == {
        p.name: p.read_bytes() for p in labelled.glob("*.tar")
    }


def test_graphs_keep_what_they_say_and_get_more(world, loaded):
    (sample,) = list(read_shard(str(sorted((world / "graphs").glob("*.tar"))[0]), Dropped()))[:1]
    own = sample.packed.record["relations"]
    ((packed, _),) = tag(HeadTagger(loaded), [sample], "vocabulary", 0.0, 4)
    assert packed.record["relations"][: len(own)] == own
    n, classes = len(sample.graph.entities), 4
    assert len(packed.record["relations"]) == n * (n - 1) * classes  # each once: what people said is not said again


def test_a_pair_gets_only_what_was_proposed_for_it(world, loaded):
    sample = next(read_shard(str(sorted((world / "regions").glob("*.tar"))[0]), Dropped()))
    proposed = [
        {"subject": 0, "relation": "left of", "object": 1, "confidence": 0.5, "caption": 0},
        {"subject": 1, "relation": "above", "object": 0},
        {"subject": 1, "relation": "above it all", "object": 0},  # no part of a name counts: "above" is not meant
    ]
    record = {**sample.packed.record, "relations": proposed, "captions": ["a"]}
    sample = sample._replace(
        packed=sample.packed._replace(record=record), graph=SceneGraph.from_json(record, *sample.image.size)
    )
    ((packed, lost),) = tag(HeadTagger(loaded), [sample], "own", 0.0, 2)
    found = {(r["subject"], r["relation"], r["object"]) for r in packed.record["relations"]}
    assert found == {(0, "left of", 1), (1, "above", 0)}
    assert lost["relation_not_scored"] == 1
    ((packed, lost),) = tag(HeadTagger(loaded), [sample], "own", 1.0, 2)
    assert "relations" not in packed.record
    assert lost["relation_below_threshold"] == 2


def test_calibrated_confidences_keep_the_raw_score(world, checkpoint, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    assert main(["data", "calibrate", str(model), str(world / "graphs")]) == 0
    said = capsys.readouterr().out
    assert "calibration error" in said
    stored = json.loads((tmp_path / "model.calibration.json").read_text())
    assert stored["about"]["calibration_error"].keys() == {"raw", "platt"}
    assert "NaN" not in (tmp_path / "model.calibration.json").read_text()
    assert (tmp_path / "model.calibration.png").read_bytes()[:4] == b"\x89PNG"
    assert label(world / "regions", model, tmp_path / "out", "--threshold", "0") == 0
    assert "calibrated probabilities (platt)" in capsys.readouterr().out
    a, b = stored["scores"]
    relation = next(iter(records(tmp_path / "out").values()))["relations"][0]
    score = relation["score"]
    expected = 1 / (1 + math.exp(-(a * math.log(score / (1 - score)) + b)))
    assert relation["confidence"] == pytest.approx(expected, rel=1e-3)


def test_a_calibration_is_for_one_checkpoint_and_kind_of_score(world, loaded, checkpoint, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    assert main(["data", "calibrate", str(model), str(world / "graphs"), "--method", "isotonic"]) == 0
    assert label(world / "regions", model, tmp_path / "itm", "--by", "itm") == 0
    assert "confidence: raw scores" in capsys.readouterr().out
    own = str(tmp_path / "model.calibration.json")
    assert label(world / "regions", model, tmp_path / "a", "--by", "itm", "--calibration", own) == 2
    head = loaded.objectives["tagger"].head[-1].bias
    with torch.no_grad():
        head.add_(1)
        loaded.save_pretrained(model)  # trained on
        head.sub_(1)
    assert label(world / "regions", model, tmp_path / "b") == 2
    assert capsys.readouterr().err.count("write it anew with relpretrain data calibrate") == 2


def test_margins_need_no_head(world, checkpoint, tmp_path):
    assert label(world / "regions", checkpoint, tmp_path / "out", "--by", "itm", "--threshold", "0.5") == 0
    sources = {r["source"] for record in records(tmp_path / "out").values() for r in record.get("relations", [])}
    assert sources == {"tagger itm_margin"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "2"], "--threshold=2 must be a probability"),
        (["--confidence", "calibrated"], "relpretrain data calibrate, or take --confidence raw"),
        (["--relations", "gqa"], "--relations is for --by itm"),
        (["--calibration", "nowhere.json"], "nowhere.json"),
        (["--replace"], "--model and --replace are for parsers"),
        (["--device", "abacus"], "Device 'abacus' cannot be used"),
    ],
)
def test_mistakes_are_told_in_one_line(world, checkpoint, tmp_path, capsys, options, message):
    assert label(world / "regions", checkpoint, tmp_path / "out", *options) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line
    assert not list(tmp_path.glob("out/*.tar"))


def test_options_of_a_tagger_need_one(world, tmp_path, capsys):
    command = ["data", "label", str(world / "regions"), "--out", str(tmp_path / "out"), "--by", "itm"]
    assert main(command) == 2
    assert "there is none: name --tagger CHECKPOINT" in capsys.readouterr().err


def test_a_model_without_the_head_is_refused(world, loaded, tmp_path, capsys):
    replace(loaded, objectives={}, vocabulary=None).save_pretrained(tmp_path / "plain")
    assert label(world / "regions", tmp_path / "plain", tmp_path / "out") == 2
    assert "no RelationTagger (its objectives: none)" in capsys.readouterr().err


@pytest.mark.parametrize("proposals", ["vocabulary", "own"])
@pytest.mark.parametrize("form", [lambda r: r, lambda r: math.nan, lambda r: None, lambda r: [r]])
def test_one_relation_alone_and_none_are_read_as_lists(world, loaded, form, proposals):
    """As the streams read them: one triplet alone is a list of one, null and NaN are empty."""
    sample = next(read_shard(str(next(world.glob("graphs/*.tar"))), Dropped()))
    first = sample.packed.record["relations"][0]
    record = sample.packed.record | {"relations": form(first)}
    graph = SceneGraph.from_json(record, *sample.image.size)
    sample = sample._replace(packed=sample.packed._replace(record=record), graph=graph)
    ((packed, _),) = tag(HeadTagger(loaded), [sample], proposals, 0.0, 1)
    said = [tuple(r[part] for part in ("subject", "relation", "object")) for r in packed.record.get("relations", [])]
    kept = [(r.subject, r.relation, r.object) for r in graph.relations]
    assert said[: len(kept)] == kept


def test_a_broken_sample_is_counted(world, loaded, tmp_path):
    with ShardWriter(tmp_path / "shards") as writer:
        writer.write("a", b"no image", "png", {"entities": []})
    dropped = Dropped()
    assert list(read_shard(str(tmp_path / "shards" / "shard-000000.tar"), dropped)) == []
    assert dropped.total() == 1
