import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relpretrain.cli import main
from relpretrain.data.build.label_sample import Labelling
from relpretrain.data.shards.manifest import manifests
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.scene_graph import SceneGraph
from tests.data.build.converting import contents
from tests.data.test_commands import jpeg, samples, write_tar

RIDING = "A man riding a brown horse."
PLACES = {
    "entities": [
        {"label": "person", "box": [2, 2, 10, 20]},
        {"label": "horse", "box": [0, 10, 24, 30], "attributes": ["brown"]},
    ]
}


def label(*words):
    return main(["data", "label", *map(str, words), "--synonyms", "table", "--workers", "1"])


@pytest.fixture
def shards(tmp_path):
    """Three shards: without boxes, with boxes, and as a download has them, one image of which is broken."""
    write_tar(tmp_path / "in/a.tar", {
        "1.jpg": jpeg((40, 30)), "1.json": {"captions": [RIDING, "A cup on a table."]},
        "2.jpg": jpeg((40, 30)), "2.json": {"captions": []},
    })  # fmt: skip
    write_tar(tmp_path / "in/b.tar", {
        "3.jpg": jpeg((40, 30)), "3.json": PLACES | {"captions": [RIDING], "image_id": "coco 3", "source": "coco"},
    })  # fmt: skip
    write_tar(tmp_path / "in/c.tar", {
        "4.jpg": jpeg((40, 30)), "4.json": {"url": "http://x/4", "caption": "ignored\n by none"}, "4.txt": b"x",
        "5.jpg": b"broken", "5.txt": b"A dog",
        "6.jpg": jpeg((40, 30)), "6.txt": b"A dog on a couch",
    })  # fmt: skip
    return tmp_path / "in"


def graphs(folder):
    found = {}
    for key, record in samples(folder)[0].items():
        graph = SceneGraph.from_json(record, record["width"], record["height"])
        names = [entity.label for entity in graph.entities]
        found[key] = [(names[r.subject], r.relation, names[r.object]) for r in graph.relations]
    return found


def test_captions_become_graphs_with_their_places(shards, tmp_path, capsys):
    assert label(shards, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    records, images = samples(tmp_path / "out")
    assert images["3"] == ("jpg", jpeg((40, 30)))
    assert graphs(tmp_path / "out") == {
        "1": [("man", "riding", "horse"), ("cup", "on", "table")],
        "2": [],
        "3": [("person", "riding", "horse")],
        "4": [],
        "6": [("dog", "on", "couch")],
    }
    source = records["1"]["relations"][0]["source"]
    assert source.startswith("lexicon ")
    for record in records.values():
        for thing in (*record.get("entities", ()), *record.get("relations", ())):
            caption, (start, end) = record["captions"][thing["caption"]], thing["span"]
            words = caption[start:end].lower()
            assert thing.get("label") in (None, "person", words.split()[-1])
            assert thing.get("relation") in (None, words)
    man, horse = records["3"]["entities"]
    assert (man["box"], horse["box"]) == ([2, 2, 10, 20], [0, 10, 24, 30])
    assert "source" not in man
    sure = {key: records[key]["relations"][0].get("confidence", 1.0) for key in "13"}
    assert sure["3"] == pytest.approx(0.9 * sure["1"], abs=1e-3)  # "man" for "person"
    assert (records["3"]["image_id"], records["3"]["source"], records["4"]["url"]) == ("coco 3", "coco", "http://x/4")
    assert records["4"]["captions"] == ["ignored by none"]
    assert records["6"]["captions"] == ["A dog on a couch"]
    assert "5 captions of 4 images: 4 triplets read, 0.80 a caption; 4 new, 1 between two boxes" in told
    assert "2 of 2 nouns of images with boxes are tied to one (100.0 %)" in told
    assert "relations: on 2, riding 2" in told or "relations: riding 2, on 2" in told
    assert "1 unreadable_image" in told
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["labelled"]["triplets_written"] == 4
    assert index["labelled_relations"] == {"on": 2, "riding": 2}
    assert index["options"]["parser"] == source
    assert [(s["samples"], s["eligible"]["graphs"], s["eligible"]["boxed_graphs"]) for s in index["shards"]] == [
        (2, 1, 0), (1, 1, 1), (2, 1, 0)
    ]  # fmt: skip
    for entry in manifests([str(tmp_path / f"out/shard-{i:06d}.tar") for i in range(3)]).values():
        assert entry.eligible == {k: len(ShardIndex.of(entry.shard).eligible(k)) for k in entry.eligible}


@pytest.mark.parametrize("number", [1, 3, 7])
def test_any_number_of_tasks_gives_the_same_shards(shards, tmp_path, number):
    assert label(shards, "--out", tmp_path / "once/out") == 0
    for task in reversed(range(number)):
        assert label(shards, "--out", tmp_path / "out", "--task", f"{task}/{number}", "--batch-size", 1 + task) == 0
    assert main(["data", "merge", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "once/out")


def test_a_killed_task_does_what_is_missing(shards, tmp_path, monkeypatch):
    assert label(shards, "--out", tmp_path / "once/out") == 0
    done = []
    whole = Labelling.__call__

    def killed(self, items):
        done.append([located.key for located in items])
        if len(done) == 2:
            raise KeyboardInterrupt
        return whole(self, items)

    words = ["data", "label", str(shards), "--synonyms", "table", "--workers", "1", "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(Labelling, "__call__", killed)
        with contextlib.suppress(KeyboardInterrupt):
            assert main(words) != 0
    assert not (tmp_path / "out/index.json").exists()
    again = []

    def noted(self, items):
        again.extend(located.key for located in items)
        return whole(self, items)

    monkeypatch.setattr(Labelling, "__call__", noted)
    assert main(words) == 0
    assert again == ["3", "4", "5", "6"]  # not the first shard
    assert contents(tmp_path / "out") == contents(tmp_path / "once/out")
    assert not (tmp_path / "out/.tasks").exists()


def test_a_human_graph_stays_unless_it_is_to_be_replaced(tmp_path, capsys):
    human = [
        {"subject": 0, "relation": "riding", "object": 1},
        {"subject": 1, "relation": "below", "object": 0},
    ]
    record = PLACES | {"captions": [RIDING], "relations": human}
    write_tar(tmp_path / "in/a.tar", {"1.jpg": jpeg((40, 30)), "1.json": record})
    assert label(tmp_path / "in", "--out", tmp_path / "kept") == 0
    assert samples(tmp_path / "kept")[0]["1"]["relations"] == human
    assert "1 repeats_annotated" in capsys.readouterr().out
    assert label(tmp_path / "in", "--out", tmp_path / "new", "--replace") == 0
    (relation,) = samples(tmp_path / "new")[0]["1"]["relations"]
    assert relation["relation"] == "riding"
    assert relation["source"].startswith("lexicon")
    assert label(tmp_path / "new", "--out", tmp_path / "again") == 0  # what it has said, it does not say again
    assert samples(tmp_path / "again") == samples(tmp_path / "new")
    assert label(tmp_path / "new", "--out", tmp_path / "anew", "--replace") == 0
    assert samples(tmp_path / "anew") == samples(tmp_path / "new")


def test_packing_with_other_captions_takes_their_places_along(shards, tmp_path):
    assert label(shards / "b.tar", "--out", tmp_path / "graphs") == 0
    (tmp_path / "more.jsonl").write_text(json.dumps({"image_id": "coco 3", "captions": ["Another one", RIDING]}))
    for how, caption in (("add", 0), ("replace", 1)):
        words = ["data", "pack", tmp_path / "graphs", "--out", tmp_path / how, "--join", tmp_path / "more.jsonl"]
        assert main([*map(str, words), "--join-captions", how, "--workers", "1"]) == 0
        record = samples(tmp_path / how)[0]["3"]
        assert record["captions"][caption] == RIDING
        assert [r["caption"] for r in record["relations"]] == [caption]


def test_mistakes_are_one_line(shards, tmp_path, capsys):
    assert label(shards, "--out", shards) == 2
    assert "holds shards that are to be read" in capsys.readouterr().err
    assert label(tmp_path / "nothing", "--out", tmp_path / "out") == 2
    assert label(shards, "--out", tmp_path / "out", "--task", "0/2") == 0
    assert label(shards, "--out", tmp_path / "out", "--task", "1/2", "--min-tie", "0.9") == 2
    assert "other arguments or files (options)" in capsys.readouterr().err
    assert label(shards, "--out", tmp_path / "other", "--min-tie", "2") == 2
    assert "argument --min-tie: must be a number between 0 and 1, got 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("no/such/model", "neither a folder nor the name of a model"), ("nowhere", "huggingface.co cannot be reached")],
)
def test_a_model_that_is_not_here_is_told_at_once(shards, tmp_path, capfd, monkeypatch, name, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the hub is then never asked
    words = ["--parser", "factual", "--model", name, "--out", str(tmp_path / "out")]
    assert main(["data", "label", str(shards), *words]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line


def test_no_caption_no_graph(tmp_path, capsys):
    write_tar(tmp_path / "in/a.tar", {"1.jpg": jpeg((40, 30)), "1.json": PLACES})
    assert label(tmp_path / "in", "--out", tmp_path / "out") == 0
    assert "0 captions of 0 images: 0 triplets read, 0.00 a caption" in capsys.readouterr().out


def test_labelling_needs_no_torch():
    code = "import sys, relpretrain.data.build.label; assert 'torch' not in sys.modules"
    assert (
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path.cwd())}).returncode == 0
    )
