"""Labelling with Ray Data on this machine, two actors: the same shards as without, whatever is killed or broken."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relpretrain.cli import main
from tests.data.build.converting import contents
from tests.data.test_commands import jpeg, write_tar

ROOT = Path(__file__).parents[3]


def words(shards, out, *more):
    return ["data", "label", str(shards), "--synonyms", "table", "--out", str(out), "--batch-size", "2", *more]


RAY = ("--ray", "--actors", "2", "--gpus-per-actor", "0")


@pytest.fixture(scope="module")
def cluster():
    """Ray, started once for the tests that work in this process."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


@pytest.fixture
def shards(tmp_path):
    """Five shards, with boxes and without, one image of which is broken, and one shard without a caption."""
    boxes = [{"label": "person", "box": [2, 2, 10, 20]}, {"label": "horse", "box": [0, 10, 24, 30]}]
    for shard in range(5):
        files = {}
        for number in range(5):
            key = f"{shard}{number}"
            captions = [] if shard == 3 else [f"A man riding {number + 2} brown horses.", "A cup on a table"]
            files[f"{key}.jpg"] = b"broken" if key == "12" else jpeg((40, 30))
            files[f"{key}.json"] = {"captions": captions, **({"entities": boxes} if number % 2 else {})}
        write_tar(tmp_path / f"in/{shard}.tar", files)
    return tmp_path / "in"


def test_the_same_bytes_as_without(cluster, shards, tmp_path):
    assert main(words(shards, tmp_path / "once/out", "--workers", "1")) == 0
    assert main(words(shards, tmp_path / "out", *RAY)) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "once/out")
    assert not (tmp_path / "out/.tasks").exists()
    shutil.rmtree(tmp_path / "out")
    for task in ("1/2", "0/2"):  # one of the tasks without
        assert main(words(shards, tmp_path / "out", "--task", task, *(RAY if task == "1/2" else ()))) == 0
    assert main(["data", "merge", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "once/out")


def test_a_shard_that_fails_is_named(cluster, shards, tmp_path, capsys):
    (shards / "4.tar").write_bytes(b"no tar" * 1000)
    assert main(words(shards, tmp_path / "out", *RAY)) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("relpretrain: error: ")
    assert str(shards / "4.tar") in told.splitlines()[-1]
    assert "Traceback" not in told
    assert not (tmp_path / "out/index.json").exists()


def test_more_gpus_than_there_are(cluster, shards, tmp_path, capsys):
    assert main(words(shards, tmp_path / "out", "--ray", "--actors", "3", "--gpus-per-actor", "0.5")) == 2
    assert "--actors 3 with --gpus-per-actor 0.5 take 1.5 GPUs, and Ray has 0" in capsys.readouterr().err


def test_a_killed_run_goes_on(cluster, shards, tmp_path):
    assert main(words(shards, tmp_path / "once/out", "--workers", "1")) == 0
    command = [sys.executable, "-m", "relpretrain", *words(shards, tmp_path / "out", *RAY)]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "RAY_ADDRESS": "local"}
    run = subprocess.Popen(command, env=surroundings, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    kept = tmp_path / "out/.tasks"
    for _ in range(6000):
        if list(kept.glob("part-*.json")) or run.poll() is not None:
            break
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = {path.stem[5:]: path.with_suffix(".tar").stat().st_ino for path in kept.glob("part-*.json")}
    assert done
    assert not (tmp_path / "out/index.json").exists()
    assert main(words(shards, tmp_path / "out", *RAY)) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "once/out")
    assert {number: (tmp_path / f"out/shard-{number}.tar").stat().st_ino for number in done} == done  # not done again


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--actors", "2"], "--actors and --gpus-per-actor are for work with Ray: add --ray"),
        (["--ray", "--workers", "2"], "--workers is for work without Ray, which has --actors"),
        (["--ray", "--gpus-per-actor", "1.5"], "must be a share of a GPU or a whole number of them, got 1.5"),
        (["--ray"], 'pip install "relpretrain[ray]"'),
        (["--ray", "--tagger", "tagger.ckpt"], "--ray is for parsers of captions"),
    ],
)
def test_mistakes_are_one_line(shards, tmp_path, capsys, monkeypatch, more, told):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert main(words(shards, tmp_path / "out", *more)) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
