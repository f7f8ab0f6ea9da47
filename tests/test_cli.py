import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
import yaml

from relpretrain import cli
from relpretrain.cli import lightning_main, main
from relpretrain.training.command.trial import trial
from relpretrain.version import __version__

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"


def errors(capsys):
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("relpretrain: error: ")]
    assert "Traceback" not in captured.err
    return [line.removeprefix("relpretrain: error: ") for line in lines]


@pytest.fixture
def recipe(tmp_path):
    """Write a changed quickstart."""

    def write(change):
        content = yaml.safe_load(QUICKSTART.read_text())
        content["run"] = str(tmp_path / "run")  # not the checkout's, which may hold a run
        change(content)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return write


def test_help_names_the_commands(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("fit", "data", "zeroshot", "--version"))


def test_version(capsys):
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_python_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "relpretrain", "fitt"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "relpretrain: error: unknown command 'fitt'; did you mean 'fit'?\n"


def test_lightning_hands_training_to_us(monkeypatch):
    called = []
    monkeypatch.setitem(cli.COMMANDS, "fit", lambda command, arguments: called.append(arguments) or 0)
    assert lightning_main(["fit", "-c", "x.yaml"]) == 0
    assert called == [["-c", "x.yaml"]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "Usage: lightning [OPTIONS] COMMAND"),
        (["run", "--help"], 0, "Usage: lightning run [OPTIONS] SCRIPT"),
        (["run", "model"], 2, "Path 'model' does not exist"),
        (["fabrik"], 2, "No such command 'fabrik'"),
        (["--version"], 2, "No such option"),
    ],
)
def test_lightning_is_else_the_original(arguments, code, said, capsys):
    assert lightning_main(arguments) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    told = captured.out.startswith("`lightning fit|validate|test|predict` are relpretrain's")
    assert told == (arguments == ["--help"])


def test_lightning_of_another_distribution_comes_first(monkeypatch):
    seen = []
    theirs = types.SimpleNamespace(value="theirs:main", load=lambda: lambda: seen.append(list(sys.argv)))
    own = types.SimpleNamespace(value="relpretrain.cli:lightning_main", load=None)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [own, theirs])
    assert lightning_main(["login"]) == 0
    assert seen == [["lightning", "login"]]


def test_a_missing_recipe_is_named(capsys, tmp_path):
    (tmp_path / "albef.yaml").write_text("{}")
    assert main(["fit", "-c", str(tmp_path / "albeff.yaml")]) == 2
    assert errors(capsys) == [f"recipe {tmp_path / 'albeff.yaml'} does not exist; did you mean 'albef.yaml'?"]


def test_what_is_not_yaml_is_named(capsys, tmp_path):
    (tmp_path / "x.yaml").write_text("a: [1")
    assert main(["fit", "-c", str(tmp_path / "x.yaml")]) == 2
    (line,) = errors(capsys)
    assert "is not YAML" in line


def test_all_mistakes_of_a_recipe_are_told_at_once(capsys, recipe):
    def spoil(content):
        content["modle"] = {}
        content["model"]["backbone"]["init_args"]["vocab_sise"] = 3
        content["model"]["optimizer"]["learning_rate"] = 1
        content["model"]["objectives"]["vsg"]["class_path"] = "VGS"
        content["model"]["objectives"]["mrc"]["init_args"]["vocabulry"] = "gqa"
        content["data"]["num_worker"] = 1
        content["data"]["streams"]["captions"]["batchsize"] = 4
        content["data"]["streams"]["captions"]["objectives"] = ["itc", "itmm", "mrc"]
        content["data"]["streams"]["graphs"]["kind"] = "graph"
        del content["data"]["streams"]["regions"]["datasets"]

    assert main(["fit", "-c", recipe(spoil)]) == 2
    files = ("Shard pattern", "data.tokenizer: ", "no relation vocabulary")  # there are none here: told as well
    found = [line for line in errors(capsys) if not any(word in line for word in files)]
    expected = [
        ("unknown argument 'modle'", "'model'"),
        ("model.optimizer: unknown argument 'learning_rate'", ""),
        ("model.backbone: unknown argument 'vocab_sise'", "'vocab_size'"),
        ("model.objectives.vsg: unknown objective 'VGS'", "'VSG'"),
        ("model.objectives.mrc: unknown argument 'vocabulry'", "'vocabulary'"),
        ("data: unknown argument 'num_worker'", "'num_workers'"),
        ("data.streams.captions: unknown argument 'batchsize'", "'batch_size'"),
        ("data.streams.captions.objectives: 'itmm' is not in model.objectives", "'itm'"),
        ("data.streams.captions.objectives: 'mrc' consumes GraphBatch", "gives CaptionBatch"),
        ("data.streams.regions: lacks datasets", ""),
        ("data.streams.graphs.kind: unknown kind 'graph'", "'graphs'"),
    ]
    assert len(found) == len(expected), found
    for line, (start, hint) in zip(found, expected, strict=True):
        assert line.startswith(start), line
        assert hint in line, line


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--model.objectives.vsg.init_args.weigth=0.5",
            "model.objectives.vsg: unknown argument 'weigth'; did you mean 'weight'?",
        ),
        (
            "--model.objectives.vsg.weigth=0.5",
            "model.objectives.vsg: unknown argument 'weigth'; did you mean 'weight'?",
        ),
        ("--trainer.max_step=3", "trainer: unknown argument 'max_step'; did you mean 'max_steps'?"),
        ("--data.image_size=big", "data.image_size='big': expected int"),
        ("--sed_everything=3", "unknown argument 'sed_everything'; did you mean 'seed_everything'?"),
        ("--model.optimiser.lr=1", "model: unknown argument 'optimiser'; did you mean 'optimizer'?"),
        ("--model.backbone=XVLMM", "model.backbone: unknown backbone 'XVLMM'; did you mean 'XVLM'?"),
        ("--trainer.callbacks+=ModelCheckpiont", "unknown callback 'ModelCheckpiont'; did you mean 'ModelCheckpoint'?"),
        ("--trainer.logger=TensorBord", "trainer.logger: unknown logger 'TensorBord'; did you mean 'TensorBoard'?"),
        ("--trainer.precision=bf-16", "did you mean 'bf16'?"),
        ("--model.optimizer.decay=liner", "model.optimizer.decay='liner': expected one of linear, cosine"),
    ],
)
def test_a_wrong_override_is_one_line(argument, message, capsys):
    assert main(["fit", "-c", str(QUICKSTART), "--print_config", argument]) == 2
    (line,) = errors(capsys)
    assert message in line


VALUES = {
    "--model.backbone.size=tinny": "Unknown size 'tinny'; did you mean 'tiny'?",
    "--model.backbone.image_size=31": "model.backbone: image_size=31 is not a multiple of ",
    "--model.backbone.dropout=2": "model.backbone: dropout=2.0 must be at least 0 and below 1.",
    "--data.streams.graphs.ratio=-1": "Ratios must be finite and not negative: captions 1, regions 0.5, graphs -1.",
    "--data.streams.captions.batch_size=0": "Stream 'captions': batch_size=0 must be at least 1.",
    "--data.streams.captions.flip=2": "Stream 'captions': flip=2 must be a probability between 0 and 1.",
    "--data.mask_fraction=1.5": "mask_fraction=1.5 must be a fraction between 0 and 1.",
    "--data.num_workers=-1": "num_workers=-1 must not be negative",
    "--data.validation_batches=many": "data.validation_batches='many': expected int",
    "--threads=0": "threads=0: expected a whole number from 1",
    "--seed_everything=-3": "seed_everything=-3: expected a whole number from 0 to 4,294,967,295",
    "--data.exclude=gone.json": "cannot read the exclusion list gone.json",
    "--model.objectives.mrc.init_args.vocabulary=nowhere.json": "model.objectives.mrc: no relation vocabulary",
    "--model.optimizer.lr=-1": "optimizer: needs 0 < lr and 0 <= min_lr <= lr, got lr=-1.0",
    "--model.optimizer.betas=[0.9,1.5]": "optimizer: betas=[0.9, 1.5] must be two numbers in [0, 1)",
    "--model.weights=gone.pt": "model.weights: gone.pt does not exist",
    "--trainer.accelerator=cpuu": "invalid accelerator name: `accelerator='cpuu'`",
    "--trainer.max_step=3": "trainer: unknown argument 'max_step'; did you mean 'max_steps'?",
}


def test_wrong_values_of_all_kinds_are_told_at_once(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-c", str(QUICKSTART), *VALUES]) == 2
    lines = errors(capsys)
    for message in VALUES.values():
        assert sum(message in line for line in lines) == 1, (message, lines)
    others = [line for line in lines if not any(message in line for message in VALUES.values())]
    assert all("Shard pattern" in line or line.startswith("data.tokenizer: ") for line in others), others


def test_devices_that_are_no_number_are_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-c", str(QUICKSTART), "--trainer.devices=two", "--trainer.accelerator=cpu"]) == 2
    assert sum("`devices` selected with `CPUAccelerator` should be an int > 0" in line for line in errors(capsys)) == 1


def test_sizes_that_differ_are_told_with_both(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-c", str(QUICKSTART), "--data.image_size=64"]) == 2
    expected = "data.image_size=64 differs from the backbone's image_size=32: set both to the same"
    assert expected in errors(capsys)


def test_a_part_is_tried_until_every_wrong_value_is_named():
    def build(a: int, b: int = 1, c: int = 1):
        if c < 0:
            raise ValueError("c must not be negative")
        if b < a:
            raise ValueError(f"b={b} is below a={a}")
        return a, b, c

    assert trial("part", build, {"a": 1, "b": 2, "c": 3}) == ((1, 2, 3), [])
    built, lines = trial("part", build, {"a": 1, "b": 0, "c": -1})
    assert built == (1, 1, 1)
    assert lines == ["part: c must not be negative", "part: b=0 is below a=1"]
    assert trial("part", build, {"a": 5})[0] is None


def test_training_without_its_shards_ends_before_it_starts(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    assert main(["fit", "-c", str(QUICKSTART)]) == 2
    lines = errors(capsys)
    shards = [line for line in lines if "Shard pattern 'runs/quickstart/data/" in line]
    assert len(lines) == len(shards) + 2  # and tokenizer and vocabulary
    assert {line.split("'")[1] for line in shards} >= {"captions", "regions", "graphs"}
    assert time.perf_counter() - start < 20


def test_a_checkpoint_that_is_none_ends_training_before_it_starts(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.ckpt").write_text("hello")
    assert main(["fit", "-c", str(QUICKSTART), "--ckpt_path", "notes.ckpt"]) == 2
    (line,) = errors(capsys)
    assert line.startswith("notes.ckpt")
    assert main(["fit", "-c", str(QUICKSTART), "--ckpt_path", "absent.ckpt"]) == 2
    assert errors(capsys) == ["checkpoint absent.ckpt does not exist"]


def test_wrong_data_arguments_are_one_line(capsys):
    assert main(["data", "pakc"]) == 2
    (line,) = errors(capsys)
    assert "pakc" in line


def test_what_is_no_mistake_of_a_user_keeps_its_traceback(monkeypatch):
    def broken(command, arguments):
        return int("a bug")

    monkeypatch.setitem(cli.COMMANDS, "fit", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["fit"])


def test_a_full_gpu_is_one_line_with_the_remedy(monkeypatch, capsys):
    def full(command, arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 9 GiB.\n See more")

    monkeypatch.setitem(cli.COMMANDS, "fit", full)
    assert main(["fit"]) == 2
    (line,) = errors(capsys)
    assert line.startswith("CUDA out of memory. Tried to allocate 2.00 GiB: take smaller batches; ")
