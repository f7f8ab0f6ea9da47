"""The arms of newer objectives: what each trains, and the preset from end to end in miniature."""

from dataclasses import replace

import pytest

from benchmarks.ablation import design, runs
from benchmarks.ablation.design import COMPARED, OBJECTIVE_SHARE, Run
from benchmarks.ablation.objectives import OBJECTIVES
from benchmarks.ablation.pages import page as drawing
from benchmarks.ablation.pages.objective_page import write_objective_page
from benchmarks.ablation.pages.paragraphs import Context
from benchmarks.ablation.recipe import recipe_of
from benchmarks.ablation.results import select
from relpretrain.objectives.text_foil import PRESETS

SEED = 0
FEW = {"images_captions": 60, "images_graphs": 12, "images_validation": 6, "shard_size": 12}
FEW |= {"items_vsr": 6, "items_valse": 3, "items_retrieval": 3, "items_hard_positives": 3, "items_attribution": 3}
TRAINED = (
    Run("ALBEF", "+CE-CLIP", SEED, share=OBJECTIVE_SHARE),
    Run("ALBEF", "+both+units", SEED, share=OBJECTIVE_SHARE),
)
CONTEXT = Context("python benchmarks/ablation.py --preset objectives", "abc1234", "2 cores", "torch 9.9", 1, "x.csv")


@pytest.fixture(scope="module")
def preset():
    made = design.objectives((SEED,))
    return replace(made, worlds={"main": {**made.worlds["main"], **FEW}}, steps={"main": 3}, runs=TRAINED, processes=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory, preset):
    """A world and two arms, trained in this process."""
    out = tmp_path_factory.mktemp("objectives")
    runs.make_world(preset, "main", SEED, out)
    for run in preset.runs:
        runs.train_run(preset, run, out)
    return out


def recipe(preset, out, arm, backbone="ALBEF"):
    run = Run(backbone, arm, SEED, share=OBJECTIVE_SHARE)
    return recipe_of(preset, run, out / "worlds" / "main-0", out / "runs" / run.name, 3)


def test_every_preset_of_text_foil_is_an_arm():
    named = {arguments.get("preset") for arm in OBJECTIVES.values() for name, arguments in arm.items()}
    assert named - {None} == set(PRESETS)
    assert set(COMPARED) <= set(OBJECTIVES)


@pytest.mark.parametrize("backbone", ["ALBEF", "X-VLM"])
def test_arms_differ_in_what_they_do_with_the_same_texts(preset, out, backbone):
    texts = recipe(preset, out, "+VSG", backbone)
    others = set(texts["model"]["objectives"])
    for arm in COMPARED[1:]:
        made = recipe(preset, out, arm, backbone)
        added = set(made["model"]["objectives"]) - others
        assert added == set(OBJECTIVES[arm]) - {"vsg"}
        stream = made["data"]["streams"]["graphs"]
        assert stream["objectives"] == list(OBJECTIVES[arm])
        words = {name: stream.pop(name, None) for name in ("foil_names", "foil_words")}
        assert all(words.values()) == bool(added - {"mrc"})
        assert {**stream, "objectives": ["vsg"]} == texts["data"]["streams"]["graphs"]
        assert made["data"]["streams"]["captions"] == texts["data"]["streams"]["captions"]
        instead = arm in ("+NegCLIP", "+TSVLC", "+CE-CLIP", "+MultiPositive")
        assert made["model"]["objectives"]["vsg"]["init_args"].get("itc", 1.0) == (0.0 if instead else 1.0)


def test_foils_say_what_the_world_says(preset, out):
    stream = recipe(preset, out, "+SGVL")["data"]["streams"]["graphs"]
    assert len(stream["foil_names"]) == 10
    assert {"red square", "red circle"} < set(stream["foil_names"])
    assert {"left of", "below", "red"} < set(stream["foil_words"])
    known = (out / "worlds" / "main-0" / "tokenizer" / "vocab.txt").read_text().split()
    assert {word for text in stream["foil_names"] + stream["foil_words"] for word in text.split()} <= set(known)


def test_every_probe_is_scored_by_matching_and_by_embeddings(preset, out):
    results = runs.collect(preset, out)
    for run in TRAINED:
        found = select(results, **vars(run)).set_index(["probe", "metric"])["n"].to_dict()
        for metric in ("accuracy", "itc accuracy"):
            assert found["benchmarks/aro/attribution", metric] == 3
            assert found["held_out_combinations/hard_positives/augmented", metric] == 3
            assert found["benchmarks/half_truth/entities/half-truth", metric] == 6
            assert found["benchmarks/half_truth/relations/addition", metric] > 0
            assert found["held_out_pairs/valse/relations", metric] == 3
        assert found["benchmarks/coco_retrieval/test", "itc tr@1"] == 3
        assert ("benchmarks/vsr/test", "accuracy") in found
        assert ("benchmarks/vsr/test", "itc accuracy") not in found
        assert ("benchmarks/vsr/test", "itc auroc") in found


def test_foils_are_trained_on(out):
    header = (out / "runs" / TRAINED[0].name / "metrics.csv").read_text().splitlines()[0]
    for part in ("itc_columns", "itc_row", "text_text"):
        assert f"foils_{part}" in header
    assert "units_itm" in (out / "runs" / TRAINED[1].name / "metrics.csv").read_text().splitlines()[0]


def test_the_page_is_written_of_what_was_run(preset, out, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "plot_settings", lambda *arguments: None)  # drawn in test_objective_page.py
    page = write_objective_page(tmp_path / "page.md", runs.collect(preset, out), preset, CONTEXT).read_text()
    assert "| VSG + MRC + units |" in page
    assert "| CE-CLIP |" in page
    assert "nan" not in page
