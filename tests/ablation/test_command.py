"""The command from end to end, on a world and runs as small as they can be."""

import io
import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from benchmarks.ablation import command, design, runs, train
from benchmarks.ablation.design import Run
from benchmarks.ablation.results import RUN, final, read_results, select

SEED = 0
RUNS = (
    Run("ALBEF", "baseline", SEED),
    Run("ALBEF", "+both", SEED),
    Run("ALBEF", "baseline", SEED, budget="compute"),
    Run("X-VLM", "+both", SEED, share=0.1),
)
FEW = {
    "images_captions": 400,
    "images_graphs": 40,
    "images_validation": 4,
    "shard_size": 20,
    "items_vsr": 12,
    "items_valse": 6,
    "items_svo": 3,
    "items_retrieval": 4,
    "hold_out_pairs": 0.2,
    "hold_out_combinations": 0.2,
    "one_corpus": True,
    "images_regions": 0,
}


@pytest.fixture(scope="module")
def preset():
    return replace(design.cpu(), worlds={"main": FEW}, steps={"main": 8}, runs=RUNS, processes=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory, preset):
    """Everything trained once, in this process."""
    out = tmp_path_factory.mktemp("ablation")
    runs.make_world(preset, "main", SEED, out)
    for run in preset.runs:
        runs.train_run(preset, run, out)
    return out


def test_every_probe_is_scored_at_the_end(preset, out):
    results = final(runs.collect(preset, out))
    for run in preset.runs:
        found = select(results, **vars(run)).set_index(["probe", "metric"])["n"].to_dict()
        for folder in ("benchmarks", "held_out_pairs", "held_out_combinations"):
            for name in ("relations", "actant-swap", "existence"):
                assert found[f"{folder}/valse/{name}", "accuracy"] == 6
            assert {m for p, m in found if p == f"{folder}/vsr/test"} == {"accuracy", "auroc", "ece"}
            assert found[f"{folder}/svo/verb", "accuracy"] == 1
        assert found["benchmarks/coco_retrieval/test", "tr@1"] == 4


def test_what_lightning_says_of_a_run_goes_to_its_log():
    logger, before, log = logging.getLogger("lightning.pytorch"), io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(before)  # as Lightning makes one where it is imported, for the stream of that time
    logger.addHandler(handler)
    try:
        with train.lightning_says_to(log):
            logger.warning("within")
        logger.warning("after")
    finally:
        logger.removeHandler(handler)
    assert log.getvalue() == "within\n"
    assert before.getvalue() == "after\n"


def test_looks_make_a_curve_that_ends_before_the_last_step(preset, out):
    results = read_results(out / "runs" / RUNS[1].name / "figures.csv")
    looks = select(results, probe="held_out_combinations/valse/relations", metric="accuracy")
    assert looks["step"].tolist() == list(range(1, 9))
    assert looks["n"].tolist() == [0] * 7 + [6]
    assert looks["teraflops"].is_monotonic_increasing


def test_a_baseline_of_equal_compute_computes_as_much(preset, out):
    tables = (read_results(out / "runs" / run.name / "figures.csv") for run in RUNS[:3])
    short, both, longer = (final(table).iloc[0] for table in tables)
    a_step = short.teraflops / short.step
    assert longer.step == round(8 * both.teraflops / short.teraflops) > 8
    assert longer.teraflops == pytest.approx(both.teraflops, abs=a_step)


def test_what_is_there_is_not_made_again_and_what_differs_is(preset, out, monkeypatch):
    calls = []
    monkeypatch.setattr(train, "fit", lambda arguments: calls.append(arguments) or 1 / 0)
    for run in preset.runs:
        runs.train_run(preset, run, out)
    before = (out / "worlds" / "main-0" / "world.json").stat().st_mtime_ns
    runs.make_world(preset, "main", SEED, out)
    assert calls == []
    assert (out / "worlds" / "main-0" / "world.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"was generated with another mirrored\. Choose another --out"):
        runs.make_world(replace(preset, worlds={"main": {**FEW, "mirrored": 0.5}}), "main", SEED, out)
    longer = replace(preset, steps={"main": 9})
    figures = (out / "runs" / RUNS[0].name / "figures.csv").read_bytes()
    with pytest.raises(ZeroDivisionError):
        runs.train_run(longer, RUNS[0], out)
    assert len(calls) == 1
    assert not (out / "runs" / RUNS[0].name / "figures.csv").exists()
    (out / "runs" / RUNS[0].name / "figures.csv").write_bytes(figures)


def test_the_command_trains_reports_and_goes_on(preset, out, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(design.PRESETS, "cpu", lambda seeds=(0,): preset)
    recipe = out / "runs" / RUNS[0].name / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text())
    content["trainer"]["max_steps"] = 8
    recipe.write_text(yaml.safe_dump(content))
    notes = tmp_path / "notes.md"
    notes.write_text("Nothing was tried.")
    arguments = ["--preset", "cpu", "--out", str(out), "--notes", str(notes), "--page", str(tmp_path / "evidence.md")]
    assert command.main(arguments) == 0
    page = (tmp_path / "evidence.md").read_text()
    assert "one seed" in page
    assert "Nothing was tried." in page
    assert "--report" not in page
    assert len(read_results(tmp_path / "evidence" / "results.csv")[RUN].drop_duplicates()) == len(RUNS)
    assert f"{len(RUNS) + 1}/{len(RUNS) + 1}" in capsys.readouterr().out
    assert command.main([*arguments, "--list"]) == 0
    assert capsys.readouterr().out.split() == [run.name for run in RUNS]


def test_the_file_starts_it_from_any_folder_and_with_the_checkout_alone(tmp_path):
    script = design.ROOT / "benchmarks" / "ablation.py"
    arguments = ["--preset", "cpu", "--out", str(tmp_path), "--list"]
    found = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.split() == [run.name for run in design.cpu().runs], found.stderr


def test_the_recipe_of_a_run_needs_the_package_alone(out):
    assert "benchmarks.ablation" not in (out / "runs" / RUNS[1].name / "recipe.yaml").read_text()


def test_a_run_waits_for_its_rivals_if_they_are_trained_too(preset, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(runs, "carry_out", lambda jobs, processes, say: found.append(jobs[-1].after) or {})
    runs.train_all(replace(preset, runs=RUNS[:3]), tmp_path)
    runs.train_all(replace(preset, runs=RUNS[2:3]), tmp_path)  # they may be there
    assert found == [("world of main, seed 0", RUNS[1].name, RUNS[0].name), ("world of main, seed 0",)]


def test_a_seed_given_twice_is_one(tmp_path, capsys):
    assert command.main(["--preset", "cpu", "--out", str(tmp_path), "--seeds", "7", "7", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) == len(set(names)) > 8


def test_a_trial_has_other_settings_and_dials(preset, tmp_path, monkeypatch):
    monkeypatch.setitem(design.PRESETS, "cpu", lambda seeds=(0,): preset)
    found = []
    monkeypatch.setattr(command, "_train", lambda preset, out: found.append(preset) or {})
    trial = ["--set", "data.mask_fraction=0.5", "model.optimizer.lr=2e-3", "--dial", "label_noise=0.1"]
    assert command.main(["--preset", "cpu", "--out", str(tmp_path), *trial]) == 2  # nothing was trained, so no page
    assert found[0].worlds == {"main": {**FEW, "label_noise": 0.1}}
    made = []
    monkeypatch.setattr(runs, "train", lambda run, recipe, *rest: made.append(recipe))
    runs.make_world(found[0], "main", SEED, tmp_path)
    runs.train_run(found[0], RUNS[0], tmp_path)
    assert made[0]["data"]["mask_fraction"] == 0.5
    assert made[0]["model"]["optimizer"]["lr"] == 0.002


def test_mistakes_are_told_in_a_line(preset, tmp_path, capsys, monkeypatch):
    assert command.main(["--preset", "cpu", "--out", str(tmp_path), "--only", "clip"]) == 2
    assert "No run is called like clip; --list shows the names." in capsys.readouterr().err
    assert command.main(["--preset", "cpu", "--out", str(tmp_path), "--report"]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    for option, value in (("--set", "model.optimiser.lr=1"), ("--dial", "mirror=1"), ("--dial", "mirrored")):
        assert command.main(["--preset", "cpu", "--out", str(tmp_path), option, value]) == 2
        assert value.partition("=")[0] in capsys.readouterr().err
    monkeypatch.setattr(command, "_train", lambda preset, out: pytest.fail("trained before the notes were read"))
    assert command.main(["--preset", "cpu", "--out", str(tmp_path), "--notes", str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--preset", "cpu", "--out", str(tmp_path), "--steps", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err
