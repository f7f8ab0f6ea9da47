"""Every scorer from the command line, and what the constant one earns."""

import json
import math

import pytest

from relpretrain.zeroshot.command import main
from tests.zeroshot import foreign
from tests.zeroshot.helpers import write_benchmarks, write_images
from tests.zeroshot.tasks.test_retrieval import write_lists


@pytest.fixture
def data(tmp_path):
    folder = write_benchmarks(tmp_path / "data")
    write_images(folder / "images")
    write_lists(folder / "coco_retrieval")
    return folder


def state_of(out):
    return json.loads((out / "zero_shot.json").read_text())


def run(data, out, *options, tasks=("vsr", "valse", "coco_retrieval")):
    arguments = ["--data", data, "--out", out, "--split", "test", "--tasks", *tasks]
    if "valse" in tasks:
        arguments[arguments.index("--split") : arguments.index("--split") + 2] = []
    return main([str(argument) for argument in [*options, *arguments]])


def figures(out):
    return {
        f"{t['task']} {t['split']}".strip(): {r["category"]: r["accuracy"] for r in t["rows"]}
        for t in state_of(out)["tables"]
    }


def test_a_constant_earns_what_the_cards_say(data, tmp_path):
    assert run(data, tmp_path / "out", "--constant") == 0
    found = figures(tmp_path / "out")
    assert found["valse"]["overall"] == 0
    assert found["vsr synthetic/test"]["overall"] == 3 / 4  # the share of true items: 0.5 means true
    assert found["coco_retrieval test"]["TR@1"] == found["coco_retrieval test"]["IR@1"] == 0
    assert found["coco_retrieval test"] == found["coco_retrieval test without re-ranking"]
    assert state_of(tmp_path / "out")["metadata"]["scorer"] == "constant"


@pytest.mark.realdata
def test_a_constant_on_real_items(realdata, tmp_path):
    file = realdata / "coco_mini" / "derived_local_benchmark_items.json"
    out = tmp_path / "out"
    arguments = ["--constant", "--data", str(file), "--out", str(out), "--tasks", "vsr", "valse", "sugarcrepe"]
    assert main(arguments) == 0
    tables = {t["task"]: t["rows"][0] for t in state_of(out)["tables"]}
    labels = [item["label"] for item in json.loads(file.read_text())["vsr"]]
    assert {name: row["n"] for name, row in tables.items()} == {"vsr": 28, "valse": 45, "sugarcrepe": 211}
    assert tables["vsr"]["correct"] == sum(labels)
    assert tables["valse"]["accuracy"] == tables["sugarcrepe"]["accuracy"] == 0


@pytest.mark.parametrize("kind", ["clip", "siglip", "blip"])
def test_models_of_hugging_face(kind, data, tmp_path, capsys):
    name = getattr(foreign, f"write_{kind}")(tmp_path / kind)
    assert run(data, tmp_path / "out", "--model", f"hf:{name}") == 0
    found = figures(tmp_path / "out")
    assert ("coco_retrieval test without re-ranking" in found) == (kind == "blip")
    if kind == "blip":
        assert found["vsr synthetic/test"]["overall"] is not None
    else:
        assert "0.5 means nothing" in capsys.readouterr().out
    described = state_of(tmp_path / "out")["metadata"]
    assert name in described["scorer"]
    assert len(described["weights"]) == 64


def test_models_of_openclip(data, tmp_path):
    pytest.importorskip("open_clip")
    name = foreign.write_openclip(tmp_path)
    assert run(data, tmp_path / "out", "--model", f"open_clip:{name}", tasks=["coco_retrieval"]) == 0
    assert list(figures(tmp_path / "out")) == ["coco_retrieval test"]


def test_scorers_that_do_not_look(data, checkpoint, tmp_path, capsys):
    assert run(data, tmp_path / "a", "--blind", "length") == 0
    assert figures(tmp_path / "a")["valse"]["overall"] == 2 / 3  # "a red thing" and "red" are shorter than their foils
    assert figures(tmp_path / "a")["coco_retrieval test"]["IR@1"] == 0
    name = foreign.write_language_model(tmp_path / "lm")
    assert run(data, tmp_path / "b", "--blind", name, tasks=["valse"]) == 0
    assert f"under {name}" in state_of(tmp_path / "b")["metadata"]["scorer"]
    assert run(data, tmp_path / "c", "--checkpoint", checkpoint, "--blank-image") == 0
    assert "every image was replaced by a grey one" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "c/scores/coco_retrieval.test.jsonl").read_text().splitlines()]
    assert {line["cosine_image_tied"] for line in lines} == {2}


def test_the_ways_of_a_checkpoint(data, checkpoint, tmp_path, capsys):
    scores = {}
    for by in ("itm", "itc", "both"):
        assert run(data, tmp_path / by, "--checkpoint", checkpoint, "--by", by, "--max-tokens", 5) == 0
        lines = (tmp_path / by / "scores" / "valse.jsonl").read_text().splitlines()
        scores[by] = [json.loads(line)["score"] for line in lines]
        assert ("calibrated" in json.loads(lines[0])) == (by != "itm")
        assert ("coco_retrieval test without re-ranking" in figures(tmp_path / by)) == (by != "itc")
        assert state_of(tmp_path / by)["metadata"]["scorer"] == f"XVLM by {by}"
    logits = [math.log(p / (1 - p)) for p in scores["itm"]]
    assert scores["both"] == pytest.approx([a + b for a, b in zip(logits, scores["itc"], strict=True)], abs=1e-4)
    assert "texts are cut to 5 tokens" in capsys.readouterr().out


def test_k_test_is_chosen_and_said(data, checkpoint, tmp_path):
    assert run(data, tmp_path / "out", "--checkpoint", checkpoint, "--k-test", 2, tasks=["coco_retrieval"]) == 0
    assert "the best 2 by cosine re-ranked" in state_of(tmp_path / "out")["tables"][0]["protocol"]


def test_mistakes_get_one_line(data, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("relpretrain.zeroshot.scorers.matching._cpu_computes_in_bf16", lambda: False)
    for options, message in [
        (["--constant", "--blind", "length"], "Give one of --blind and --constant, not both."),
        (["--model", "clip"], "--model is hf:FOLDER_OR_NAME, open_clip:NAME/WEIGHTS or vqa:FOLDER_OR_NAME, not 'clip'"),
        (["--constant", "--by", "itc"], "--by is for --checkpoint, not for --constant."),
        (["--blind", "length", "--blank-image"], "--blank-image needs a model that looks at images"),
        (["--checkpoint", checkpoint, "--max-tokens", 1], "--max-tokens must be from 3 to 128"),
        (["--checkpoint", checkpoint, "--precision", "bf16", "--device", "cpu"], "bf16 needs CUDA or a CPU with"),
        (["--model", f"hf:{tmp_path}"], "holds no model that can be read"),
    ]:
        assert run(data, tmp_path / "out", *options) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_retrieval_again_from_its_score_file_and_compared(data, checkpoint, tmp_path):
    only = {"tasks": ["coco_retrieval"]}
    assert run(data, tmp_path / "a", "--checkpoint", checkpoint, **only) == 0
    assert run(data, tmp_path / "b", "--constant", **only) == 0
    file = tmp_path / "a" / "scores" / "coco_retrieval.test.jsonl"
    assert main(["--scores", str(file), "--data", str(data), "--out", str(tmp_path / "again")]) == 0
    assert figures(tmp_path / "again") == figures(tmp_path / "a")
    assert main(["--compare", str(tmp_path / "b"), str(tmp_path / "a"), "--out", str(tmp_path / "c")]) == 0
    rows = {row["category"]: row for row in state_of(tmp_path / "c")["comparisons"][0]["rows"]}
    assert list(rows) == ["TR@1", "TR@5", "TR@10", "IR@1", "IR@5", "IR@10"]
    assert (rows["TR@1"]["n"], rows["IR@1"]["n"]) == (3, 5)
    assert rows["IR@1"]["second"] == figures(tmp_path / "a")["coco_retrieval test"]["IR@1"]
