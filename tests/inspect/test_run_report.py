import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from relpretrain.inspect.run_report.__main__ import main
from relpretrain.inspect.run_report.curves import axis, first_and_last, read_curves, smooth
from relpretrain.inspect.run_report.groups import RUN, chances, grouped, panel_of, shared_chances
from relpretrain.inspect.run_report.picture import plot_curves
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.zeroshot.report.terminal import Report
from relpretrain.zeroshot.results.scores import write_scores
from relpretrain.zeroshot.tasks import TASKS
from tests.zeroshot.report.test_page import Balanced


def write_log(path, steps=60):
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        log = csv.DictWriter(
            file, ["epoch", "step", "lr-AdamW", "train/mrc", "train/itc", "train/mrc_accuracy", "val/itc"]
        )
        log.writeheader()
        for step in range(steps):
            log.writerow({"epoch": 0, "step": step, "lr-AdamW": 1, "train/itc": 3 - step / 30})
            if step % 3 == 0:
                log.writerow(
                    {"epoch": 0, "step": step, "train/mrc": "nan" if step == 6 else 1, "train/mrc_accuracy": 0.5}
                )
        log.writerow({"epoch": 0, "step": steps - 1, "val/itc": 1.5})


def write_result(run, scores):
    records = [{"label": 1, "score": s, "relation": "in", "id": i} for i, s in enumerate(scores)]
    write_scores(run / "zero_shot" / "scores" / "vsr.x_test.jsonl", records)
    table = TASKS["vsr"].summarise(records, "x/test")
    Report((table,), (), {"seed": 0}).write(run / "zero_shot")


def test_curves_are_read_by_column(tmp_path):
    write_log(tmp_path / "logs" / "metrics.csv")
    curves = read_curves(tmp_path / "logs" / "metrics.csv")
    assert list(curves) == ["train/mrc", "train/itc", "train/mrc_accuracy", "val/itc"]
    steps, values = curves["train/itc"]
    assert steps.tolist() == list(range(60))
    assert values[0] == 3
    assert len(curves["train/mrc"][0]) == 20
    assert curves["val/itc"][0].tolist() == [59]


@pytest.mark.parametrize("window", [1, 4, 5, None])
def test_smoothing_agrees_with_a_loop(window):
    values = np.random.default_rng(0).normal(size=90)
    values[[3, 40]] = math.nan, math.inf
    half = max(1, 4 if window is None else window) // 2
    expected = []
    for i in range(90):
        near = [v for v in values[max(0, i - half) : i + half + 1] if math.isfinite(v)]
        expected.append(sum(near) / len(near) if near else math.nan)
    assert smooth(values, window) == pytest.approx(np.array(expected), nan_ok=True)


def test_beginning_and_end_of_a_curve():
    steps = np.arange(100.0)
    assert first_and_last((steps, steps)) == (4.5, 94.5)
    assert all(map(math.isnan, first_and_last((steps[:1], np.array([math.nan])))))


def test_training_and_validation_share_a_panel():
    assert panel_of("train/itc") == panel_of("val/itc") == "itc"
    assert panel_of("loss") == "loss"


def test_panels_stand_by_objective_and_the_run_last():
    panels = ["gradient_norm", "vsg_itc_accuracy", "loss", "itc", "mrc", "vsg_itc", "graphs_loss", "mlm_accuracy"]
    assert grouped(panels) == {
        "Captions": ["itc", "mlm_accuracy"],
        "MRC": ["mrc"],
        "VSG": ["vsg_itc", "vsg_itc_accuracy"],
        RUN: ["gradient_norm", "loss", "graphs_loss"],
    }


def test_chance_is_what_the_settings_tell(tmp_path):
    vocabulary = RelationVocabulary(("on", "under"), counts={"on": 3, "under": 1})
    vocabulary.save(tmp_path / "relations.json")
    objectives = {
        "itc": {"class_path": "ITC"},
        "vma": {"class_path": "relpretrain.objectives.VMA"},
        "mrc": {"class_path": "MRC", "init_args": {"vocabulary": str(tmp_path / "relations.json")}},
    }
    streams = {
        "a": {"kind": "captions", "batch_size": 32, "objectives": ["itc"]},
        "b": {"kind": "regions", "batch_size": 8, "entities_per_image": 2, "objectives": ["vma"]},
    }
    backbone = {"class_path": "XVLM", "init_args": {"vocab_size": 128}}
    settings = {"model": {"objectives": objectives, "backbone": backbone}, "data": {"streams": streams}}
    found = chances(settings)
    assert found["itc"] == pytest.approx(math.log(32))
    assert found["vma_itc_accuracy"] == pytest.approx(1 / 16)
    assert found["vma_mlm"] == pytest.approx(math.log(128))
    one_of_three = -(math.log(1 / 3) + 2 * math.log(2 / 3)) / 3
    assert found["vma_itm"] == pytest.approx(one_of_three)
    assert found["mrc"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert found["mrc_accuracy"] == 0.75
    objectives["mrc"]["init_args"]["vocabulary"] = {"init_args": {"names": ["on", "under"], "counts": None}}
    assert chances(settings)["mrc_accuracy"] == 0.5
    backbone["init_args"] |= {"queue_size": 64}
    assert "itc" in chances(settings)  # no teacher, no queue
    backbone["init_args"] |= {"momentum": 0.995}
    assert "itc" not in chances(settings)
    assert chances({}) == {}


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"model": "x"},
            {"data": [1]},
            {"data": {"streams": [1]}},
            {"model": {"objectives": ["itc"]}},
            {"model": None},
        ),
        *({"model": {"objectives": {"itc": None}}}, {"model": {"objectives": {"mrc": "MRC"}}}),
        {"model": {"backbone": "ALBEF", "objectives": {"mlm": {"class_path": "MLM"}}}},
        {"model": {"backbone": {"init_args": {"vocab_size": "x"}}, "objectives": {"mlm": {"class_path": "MLM"}}}},
        *(
            {"model": {"objectives": {"itc": {"class_path": "ITC"}}}, "data": {"streams": {"a": stream}}}
            for stream in (
                *(None, {"objectives": "itc"}, {"objectives": ["itc"], "batch_size": "x"}),
                *({"objectives": ["itc"], "batch_size": 0}, {"objectives": ["itc"], "batch_size": None}),
            )
        ),
    ],
)
def test_settings_of_another_trainer_tell_nothing(settings):
    assert chances(settings) == {}


def test_runs_that_differ_have_no_chance_together():
    curves = {name: {"train/itc": None, "val/itc": None, "train/mrc": None} for name in "ab"}
    curves["b"]["train/vsg_itm"] = None
    of_a, of_b = {"itc": 2.77, "mrc": 1.0, "mlm": 4.0}, {"itc": 4.16, "mrc": 1.0, "vsg_itm": 0.6}
    assert shared_chances(curves, {"a": of_a, "b": of_b}) == {"mrc": 1.0, "vsg_itm": 0.6}
    assert shared_chances({"a": curves["a"]}, {"a": of_a}) == {"itc": 2.77, "mrc": 1.0}
    assert shared_chances(curves, {"a": of_a, "b": {}}) == {}  # nobody knows of b


def test_lines_that_are_cut_off_or_too_long_are_passed_over(tmp_path):
    log = tmp_path / "metrics.csv"
    log.write_text("loss,step\n1,1\n2,2,9,9\n3,x\n4,nan\n5\n6,\n7,3\n8")
    ((name, (steps, values)),) = read_curves(log).items()
    assert (name, steps.tolist(), values.tolist()) == ("loss", [1, 2, 3], [1, 2, 7])
    log.write_bytes(b"loss,step\n1,1\n\xff,2\n")
    with pytest.raises(ValueError, match=r"metrics\.csv cannot be read as a log: .*utf-8"):
        read_curves(log)


def test_results_have_the_names_of_their_runs(tmp_path):
    for name in "abc":
        write_log(tmp_path / name / "metrics.csv", 3)
    for name in "bc":
        write_result(tmp_path / name, [0.9, 0.2])
    assert main([*(str(tmp_path / name) for name in "abc"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("# Zero-shot")] == [
        "# Zero-shot results of b",
        "# Zero-shot results of c",
    ]
    assert "| b | overall" in page
    assert "| c | overall" in page


def test_the_page_needs_nothing_else_and_its_jumps_lead_somewhere(tmp_path):
    run = tmp_path / "a <b>"
    write_log(run / "metrics.csv")
    write_result(run, [0.9, 0.2])
    (run / "config.yaml").write_text(
        "model: {objectives: {itc: {class_path: ITC}}}\n"
        "data: {streams: {captions: {kind: captions, batch_size: 16, objectives: [itc]}}}\n"
    )
    (run / "data.txt").write_text("40 samples of <script>")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    page = Balanced(text)
    assert page.sources == []
    assert "url(" not in text
    assert "@import" not in text
    assert {"#g0", "#z0", "#data", "#values"} <= {f"#{anchor}" for anchor in page.anchors}
    assert page.anchors <= page.ids
    assert "40 samples of <script>" in page.text
    assert text.count('<line class="chance"') == 1
    assert "dashed: 2.77, knowing nothing" in "".join(page.text)
    assert text.count("<polyline") == 8  # values and their moving average of four columns


def test_one_run(tmp_path, capsys):
    run = tmp_path / "run_a"
    write_log(run / "logs" / "version_0" / "metrics.csv")
    write_result(run, [0.9, 0.2])
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.split()
    assert told == [str(tmp_path / "out" / name) for name in ("report.md", "report.html")]
    page = (tmp_path / "out" / "report.md").read_text()
    assert "![Logged values against steps](losses.png)" in page
    assert "| overall | 2 | 50.00 |" in page
    assert "| train/itc | 60 | 2.917 | 1.117 |" in page
    picture = np.asarray(Image.open(tmp_path / "out" / "losses.png").convert("RGB"))
    assert picture.shape[0] > 200
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50  # lines in colour, not an empty page


def test_two_runs_are_compared_item_by_item(tmp_path):
    for name, scores in (("plain", [0.9, 0.2, 0.3]), ("relations", [0.9, 0.8, 0.3])):
        write_log(tmp_path / name / "metrics.csv")
        write_result(tmp_path / name, scores)
    assert main([str(tmp_path / "plain"), str(tmp_path / "relations"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| plain | overall | 3 | 33.33 |" in page
    assert "| relations | overall | 3 | 66.67 | +33.33 |" in page
    assert "# Logged values of relations" in page


def test_a_spike_does_not_flatten_the_curve(tmp_path):
    steps = np.arange(400.0)
    values = np.ones(400)
    values[5] = 1e6
    plot_curves({"run": {"loss": (steps, values)}}, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    rows = np.flatnonzero(picture[:, picture.shape[1] // 2] < 200)
    assert (rows > 0.15 * len(picture)).any()
    assert (rows[rows < 0.8 * len(picture)] < 0.75 * len(picture)).all()


def test_mistakes_get_one_line(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "There is no metrics.csv below" in capsys.readouterr().err
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "has no column 'step'" in capsys.readouterr().err
    (tmp_path / "metrics.csv").write_text("step,b\n1,\n")
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no logged values" in capsys.readouterr().err
    (tmp_path / "metrics.csv").write_text("step,b\n1,2\n")
    (tmp_path / "x.json").write_text(json.dumps({}))
    assert main([str(tmp_path), "--out", str(tmp_path / "out"), "--zero-shot", str(tmp_path / "x.json")]) == 2
    assert "is not a zero-shot report" in capsys.readouterr().err


def test_of_steps_that_come_again_the_later_row_counts(tmp_path):
    """As where a trainer of one's own appends to the log of a run that went on from an earlier checkpoint."""
    log = tmp_path / "metrics.csv"
    log.write_text("loss,step\n1,1\n2,2\n3,3\n9,4\n20,2\n30,3\n")
    ((_, (steps, values)),) = read_curves(log).items()
    assert (steps.tolist(), values.tolist()) == ([1, 2, 3, 4], [1, 20, 30, 9])


def test_shares_end_at_one(tmp_path):
    steps = np.arange(20.0)
    ones, rising = (steps, np.ones(20)), (steps, np.linspace(0.2, 1, 20))
    assert axis([("train/mrc_accuracy", ones)]) == (0.5, 1.0)
    assert axis([("train/itc_accuracy", rising), ("val/itc_accuracy", ones)], chance=1.0)[1] == 1.0
    assert axis([("zeroshot/vsr_test", rising)], chance=0.1) == (0.1, 1.0)
    assert axis([("train/data_wait", (steps, np.zeros(20)))]) == (0.0, 0.5)
    assert axis([("train/itc", ones)], chance=2.0) == (0.5, 2.06)  # a loss
    assert axis([("val/accuracy", (steps, rising[1] * 100))])[1] > 100  # of others, in percent
    assert axis([("train/mrc_accuracy", (steps, steps * math.nan))]) == (0.0, 1.0)
    run = tmp_path / "run" / "metrics.csv"
    run.parent.mkdir()
    run.write_text("step,train/mrc_accuracy\n" + "".join(f"{step},1.0\n" for step in range(9)))
    assert main([str(run.parent), "--out", str(tmp_path / "out")]) == 0
    assert "<span>1</span><span>0.5</span>" in (tmp_path / "out" / "report.html").read_text()
