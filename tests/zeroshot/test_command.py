import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from relpretrain import cli
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.options import make_parser
from tests.parity.official_files import NAMES, official, words_of_golden
from tests.zeroshot.helpers import write_benchmarks, write_images

ROOT = Path(__file__).resolve().parents[2]


def weights(*arguments):
    return cli.main(["weights", *arguments])


def overall(out):
    tables = json.loads((out / "zero_shot.json").read_text())["tables"]
    return {f"{t['task']} {t['split']}".strip(): (t["rows"][0]["n"], t["rows"][0]["correct"]) for t in tables}


def test_a_checkpoint_is_scored_and_its_scores_give_the_same_table(world, checkpoint, tmp_path, capsys):
    tasks = ["--tasks", "vsr", "valse", "graphs"]
    assert main(["--checkpoint", str(checkpoint), *tasks, "--data", str(world), "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert all(title in printed for title in ("vsr synthetic/dev", "vsr synthetic/test", "valse", "graphs validation"))
    assert printed.splitlines()[-1] == f"Page: {tmp_path / 'a' / 'zero_shot.html'}"
    found = overall(tmp_path / "a")
    assert {name: n for name, (n, _) in found.items()} == {
        "vsr synthetic/dev": 3,
        "vsr synthetic/test": 6,
        "valse": 20,
        "graphs validation": found["graphs validation"][0],
    }
    state = json.loads((tmp_path / "a" / "zero_shot.json").read_text())["metadata"]
    assert {"relpretrain", "hardware", "seed", "command", "weights", "protocols"} <= set(state)
    data = {key for key in state if key.startswith("data ")}
    assert data == {"data vsr synthetic/dev", "data vsr synthetic/test", "data valse", "data graphs validation"}
    files = sorted(map(str, (tmp_path / "a" / "scores").iterdir()))
    assert main(["--scores", *files, "--data", str(world), "--out", str(tmp_path / "b")]) == 0
    again = overall(tmp_path / "b")
    assert again.pop("graphs") == found.pop("graphs validation")
    assert again == found
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "a"), "--out", str(tmp_path / "c")]) == 0
    rows = [c["rows"][0] for c in json.loads((tmp_path / "c" / "zero_shot.json").read_text())["comparisons"]]
    assert len(rows) == 4
    only = ["--tasks", "vsr", "--out", str(tmp_path / "d")]
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "a"), *only]) == 0
    assert len(json.loads((tmp_path / "d" / "zero_shot.json").read_text())["comparisons"]) == 2
    assert all(row["paired"]["difference"] == 0 and row["paired"]["p_value"] == 1 for row in rows)


@pytest.mark.realdata
def test_the_item_file_is_scored_on_real_pixels(realdata, checkpoint, tmp_path):
    file = realdata / "coco_mini" / "derived_local_benchmark_items.json"
    arguments = ["--checkpoint", str(checkpoint), "--tasks", "valse", "vsr", "--data", str(file)]
    assert main([*arguments, "--out", str(tmp_path), "--clean"]) == 0
    assert {name: n for name, (n, _) in overall(tmp_path).items()} == {"valse": 45, "vsr items": 28}


@pytest.mark.realdata
def test_the_script_gives_the_published_figure(realdata):
    scores = realdata / "golden_scores" / "VALSE" / "x-vlm_16m.jsonl"
    command = [sys.executable, "benchmarks/zero_shot.py", "--scores", str(scores), "--tasks", "valse"]
    done = subprocess.run([*command, "--data", str(realdata)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "overall" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][:3] == ["overall", "7,702", "74.50"]


@pytest.mark.realdata
def test_several_score_files_find_their_splits(realdata, tmp_path, capsys):
    folder = realdata / "golden_scores" / "VSR_random"
    files = [str(folder / f"albef_14m_{part}.jsonl") for part in ("dev", "test")]
    assert main(["--scores", *files, "--tasks", "vsr", "--data", str(realdata), "--out", str(tmp_path)]) == 0
    assert overall(tmp_path) == {"vsr random_v1/dev": (1012, 609), "vsr random_v1/test": (2024, 1181)}
    assert "scores of albef_14m_dev.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_an_official_checkpoint_is_scored_with_a_tokenizer(name, golden, tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    path, _ = official(golden / name)
    words = words_of_golden(tmp_path / "words")
    scored = ["--data", str(data), "--tasks", "vsr", "valse"]
    assert main(["--checkpoint", str(path), "--tokenizer", words, *scored, "--out", str(tmp_path / "a")]) == 0
    assert overall(tmp_path / "a")["valse"][0] == 3
    assert weights("convert", str(path), str(tmp_path / "ours"), "--tokenizer", words) == 0
    assert main(["--checkpoint", str(tmp_path / "ours"), *scored, "--clean", "--out", str(tmp_path / "b")]) == 0
    for file in sorted((tmp_path / "a" / "scores").iterdir()):
        assert file.read_text() == (tmp_path / "b" / "scores" / file.name).read_text()
    large = ["--tokenizer", words, "--image-size", "192" if "swin" in name else "96"]
    assert main(["--checkpoint", str(path), *large, *scored]) == 0
    capsys.readouterr()
    assert "give one by `tokenizer`" in refused(capsys, "--checkpoint", path, "--tokenizer", "./none", *scored)
    extra = ("--checkpoint", tmp_path / "ours", "--tokenizer", words)
    assert "leave out tokenizer" in refused(capsys, *extra, *scored)


def refused(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_mistakes_get_one_line(tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images", ["red"])
    there = tmp_path / "model.ckpt"
    there.write_bytes(b"not a checkpoint")
    score = ("--checkpoint", there, "--data", data)
    assert "Give one of --checkpoint FILE, --scores FILE or --compare A B." in refused(capsys)
    assert "Unknown task 'vlase'; did you mean 'valse'?" in refused(capsys, *score, "--tasks", "vlase")
    assert "There is no checkpoint" in refused(capsys, "--checkpoint", tmp_path / "none.ckpt", "--data", data)
    assert "needs --data DIR" in refused(capsys, "--checkpoint", there)
    assert "There is no data folder" in refused(capsys, "--checkpoint", there, "--data", tmp_path / "none")
    assert "There is no image folder" in refused(capsys, *score, "--images", tmp_path / "none")
    assert "images of vsr were not found (green.png, blue.png)" in refused(capsys, *score)
    assert "is not a checkpoint" in refused(capsys, *score, "--allow-missing")
    assert "Device 'warp' cannot be used" in refused(capsys, *score, "--device", "warp")
    assert "must be at least 1, got 0" in refused(capsys, *score, "--batch-size", 0)
    assert "--threshold 0.4: none of the tasks scored (valse) decides" in refused(
        capsys, *score, "--tasks", "valse", "--allow-missing", "--threshold", 0.4
    )  # before the model is loaded
    assert "--k-test 9: none of the tasks scored (valse) is a retrieval task" in refused(
        capsys, *score, "--tasks", "valse", "--allow-missing", "--k-test", 9
    )
    assert "vsr synthetic/test needs the dev part" in refused(
        capsys, *score, "--tasks", "vsr", "--split", "test", "--allow-missing", "--threshold", "dev"
    )
    assert "unrecognized arguments: --taks" in refused(capsys, *score, "--taks", "vsr")
    assert "There is no score file" in refused(capsys, "--scores", tmp_path / "none.jsonl")


def test_options_that_would_do_nothing_are_refused(tmp_path, capsys):
    (tmp_path / "s.jsonl").write_text('{"label": 1, "score": 0.5, "relation": "in", "id": 0}\n')
    stored = ("--scores", tmp_path / "s.jsonl")
    assert "--split needs --data beside --scores" in refused(capsys, *stored, "--split", "test")
    for option in (("--max-tokens", 8), ("--by", "itm"), ("--k-test", 3), ("--device", "cpu"), ("--clean",)):
        assert f"{option[0]} is for scoring a model; --scores reads" in refused(capsys, *stored, *option)
    both = ("--compare", tmp_path / "s.jsonl", tmp_path / "s.jsonl")
    for option in (("--max-tokens", 8), ("--precision", "bf16")):
        assert f"{option[0]} is for --checkpoint and --model, not for --blind" in refused(
            capsys, "--blind", "length", "--data", tmp_path, *option
        )
    for option in (("--data", tmp_path), ("--threshold", 0.3), ("--further",), ("--k-test", 3)):
        assert f"{option[0]} does nothing beside --side-by-side" in refused(capsys, "--side-by-side", tmp_path, *option)
    (tmp_path / "v.jsonl").write_text(
        "".join(
            json.dumps({"label": f"0_{kind[0]}", "score": 0.5, "instrument": "plurals", "type": kind, "id": 0}) + "\n"
            for kind in ("caption", "foil")
        )
    )
    twice = ("--compare", tmp_path / "v.jsonl", tmp_path / "v.jsonl", "--threshold", 0.3)
    assert "none of the tasks compared (valse) decides by a threshold" in refused(capsys, *twice)
    assert "not with --compare" in refused(capsys, *both, "--further")
    assert "--add goes with --side-by-side" in refused(capsys, *stored, "--add")


def test_the_help_of_bf16_names_the_cpus_that_its_refusal_names():
    said = " ".join(make_parser("relpretrain zeroshot").format_help().split())
    assert "bf16 on CUDA, or a CPU with AVX-512 BF16 or AMX; heads stay fp32" in said


def test_the_page_shows_the_image_at_the_path_of_an_item(tmp_path):
    """Benchmarks number their images: a file of that name elsewhere is another one's."""
    from relpretrain.zeroshot.run import finder

    data, name = tmp_path / "data", "MLLM_VLM Images/Texts/1.jpg"
    for path in (data / "images" / "VG_100K_2" / "1.jpg", data / "mmvp" / name):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"any")
    find = finder(SimpleNamespace(images=[], data=data))
    assert find(name) == data / "mmvp" / name
    assert find("elsewhere/1.jpg") == data / "images" / "VG_100K_2" / "1.jpg"


def test_scores_of_two_models_are_not_mixed_in_one_folder(tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    rest = ("--data", data, "--out", tmp_path / "out")
    assert main([str(a) for a in ("--constant", "--tasks", "vsr", "valse", *rest)]) == 0
    capsys.readouterr()
    message = refused(capsys, "--blind", "length", "--tasks", "valse", *rest)
    assert "scores of another model, constant, which this run would leave beside its own (vsr.synthetic" in message
    assert main([str(a) for a in ("--constant", "--tasks", "valse", *rest)]) == 0  # the same model
    assert main([str(a) for a in ("--blind", "length", "--tasks", "vsr", "valse", *rest)]) == 0  # nothing is left


def test_scores_made_elsewhere_are_not_written_into_the_folder_of_a_model(tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    rest = ("--data", data, "--out", tmp_path / "rex")
    assert main([str(a) for a in ("--constant", "--tasks", "valse", *rest)]) == 0
    own = tmp_path / "rex" / "scores" / "valse.jsonl"
    before = own.read_bytes()
    (tmp_path / "mine.jsonl").write_bytes(before.replace(b"0.5", b"0.25"))
    capsys.readouterr()
    message = refused(capsys, "--scores", tmp_path / "mine.jsonl", *rest)
    assert "holds scores of another model, constant, which this run would mix with its own or overwrite" in message
    assert "valse.jsonl" in message
    assert own.read_bytes() == before
    message = refused(capsys, "--compare", own, tmp_path / "mine.jsonl", "--out", tmp_path / "rex")
    assert "holds the report of a model, constant, which a comparison would overwrite: choose another --out" in message
    assert main([str(a) for a in ("--scores", own, *rest)]) == 0  # tables of its own scores, made again
    for _ in range(2):
        assert main([str(a) for a in ("--scores", tmp_path / "mine.jsonl", "--out", tmp_path / "mine")]) == 0


def test_two_models_whose_report_folders_are_of_one_name_are_not_mixed(tmp_path, capsys):
    line = '{"label": 1, "score": 0.5, "relation": "in", "id": 0}\n'
    made = [tmp_path / model / "report" / "scores" / "vsr.jsonl" for model in "ab"]
    for path in made:
        path.parent.mkdir(parents=True)
        path.write_text(line)
    own, other = made
    (other.parent / "vsr.mine.jsonl").write_text(line)
    both, home = tmp_path / "both", own.parents[1].resolve()
    for _ in range(2):  # the same model again
        assert main(["--scores", str(own), "--out", str(both)]) == 0
    capsys.readouterr()
    for path in (other, other.parent / "vsr.mine.jsonl"):
        message = refused(capsys, "--scores", path, "--out", both)
        assert f"holds scores of another model, report ({home}), which this run would mix" in message
    assert main([str(a) for a in ("--scores", *made, "--out", tmp_path / "two")]) == 0
    assert main(["--scores", str(other), "--out", str(tmp_path / "two")]) == 0  # one of those that it is of
    metadata = json.loads((both / "zero_shot.json").read_text())["metadata"]
    assert metadata["source report"] == str(home)


def test_a_model_called_as_a_report_folder_is_another_one(tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    constant = tmp_path / "reports" / "constant"
    assert main([str(a) for a in ("--constant", "--tasks", "vsr", "--data", data, "--out", constant)]) == 0
    copy = tmp_path / "old" / "constant" / "scores" / "vsr.synthetic_dev.jsonl"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((constant / "scores" / copy.name).read_bytes())
    capsys.readouterr()
    assert "holds scores of another model, constant, which" in refused(capsys, "--scores", copy, "--out", constant)


def test_annotations_without_items_are_named(tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    (data / "vsr" / "synthetic" / "dev.jsonl").write_text("")
    (tmp_path / "s.jsonl").write_text('{"label": 1, "score": 0.5, "relation": "in", "id": 0}\n')
    for asked in (("--scores", tmp_path / "s.jsonl"), ("--constant", "--tasks", "vsr")):
        message = refused(capsys, *asked, "--data", data)
        assert f"{data / 'vsr'} holds no items of VSR, split synthetic/dev: a file of it is empty" in message
        assert "`relpretrain data fetch vsr` says where a whole one comes from; --split chooses others" in message
    assert main([str(a) for a in ("--constant", "--tasks", "vsr", "--data", data, "--split", "test")]) == 0


def test_scores_of_another_task_are_refused(tmp_path, capsys):
    (tmp_path / "s.jsonl").write_text('{"label": 1, "score": 0.5, "relation": "in", "id": 0}\n')
    message = refused(capsys, "--scores", tmp_path / "s.jsonl", "--tasks", "valse")
    assert "s.jsonl holds scores of vsr, not of valse" in message
    assert main(["--scores", str(tmp_path / "s.jsonl")]) == 0
    assert "not checked against the benchmark's annotations" in capsys.readouterr().out


def test_mistakes_in_score_files_name_the_file(tmp_path, capsys):
    vsr = '{"label": 1, "score": 0.5, "relation": "in", "id": 0}\n'
    line = '{"label": "0_%s", "score": 0.5, "instrument": "foil-it", "piece": "foil-it", "type": "%s", "id": 0}\n'
    caption, foil = line % ("c", "caption"), line % ("f", "foil")
    (tmp_path / "good.jsonl").write_text(caption + foil)
    for lines, said in (
        (caption + foil + vsr, "holds scores of valse, but those of its line 3 are of something else"),
        (caption + foil + foil, "VALSE item 0 has two scores for its foil"),
        (caption, "needs one score for its caption and one for its foil"),
    ):
        (tmp_path / "bad.jsonl").write_text(lines)
        message = refused(capsys, "--scores", tmp_path / "good.jsonl", tmp_path / "bad.jsonl")
        assert said in message
        assert str(tmp_path / "bad.jsonl") in message
        assert "good" not in message


def test_left_out_items_are_shown(world, checkpoint, tmp_path, capsys):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images", ["red"])
    arguments = ["--checkpoint", str(checkpoint), "--data", str(data), "--allow-missing", "--split", "test"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert overall(tmp_path / "out")["vsr synthetic/test"][0] == 2
    printed = capsys.readouterr().out
    assert "2 of 3 images of vsr were not found (green.png, blue.png): 2 of 4 items left out, n = 2" in printed
    stored = str(tmp_path / "out" / "scores" / "vsr.synthetic_test.jsonl")
    assert main(["--scores", stored, "--data", str(data), "--allow-missing", "--split", "test"]) == 0
    assert "vsr.synthetic_test.jsonl has 2 of the 4 scores of synthetic/test" in capsys.readouterr().out
    assert "--allow-missing accepts that" in refused(capsys, "--scores", stored, "--data", data, "--split", "test")
