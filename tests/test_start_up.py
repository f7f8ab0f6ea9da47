import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "transformers", "timm", "webdataset", "scipy", "pandas", "torchvision", "matplotlib")
LIGHT = [  # asked one after the other in one process, which must not have loaded anything heavy after any of them
    "",
    "--help",
    "--version",
    "recipes",
    "data --help",
    "data convert coco --help",
    "data pack --help",
    "report --help",
    "report gone --out out",
    "completion bash",
    "data audit --help",
    "data doctor --help",
    "data show --help",
    "data synthetic --help",
    "zeroshot --help",
    "zeroshot --list",
    "zeroshot --card vsr",
    "explain --help",
    "explain --checkpoint gone.ckpt --image gone.png --text x --out out.html",
    "weights --help",
    "weights list",
    "weights convert gone.pth out",
    "weights export gone.ckpt out",
    "fit -c gone.yaml",
    "fit -c quickstart --ckpt_path=gone.ckpt",
    "validate --config=gone.yaml",
    "zeroshot --checkpoint gone.ckpt --data .",
    "zeroshot --constant --data gone",
    "data pack gone --out out",
    "data doctor gone",
    "data doctor -c gone.yaml",
    "data show gone --out out.html",
    "data audit gone --benchmarks gone",
    "data convert gqa --images gone --scene-graphs gone.json --out out",
]
ASK = f"""
import sys
import relpretrain
from relpretrain.cli import main
for command in {LIGHT!r}:
    assert main(command.split()) == (2 if "gone" in command else 0), command
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (command, loaded)
"""


def test_what_computes_nothing_loads_nothing_heavy(tmp_path):
    done = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("does not exist") >= 6


QUICK = """
import sys
before = set(sys.modules)
import relpretrain
from relpretrain.cli import main
for command, slow in (("--help", ("numpy", "rich", "fsspec", "importlib.metadata")),
                      ("recipes", ("numpy", "rich", "fsspec", "importlib.metadata")),
                      ("data --help", ("rich", "fsspec", "asyncio")),
                      ("zeroshot --help", ("fsspec", "asyncio"))):
    main(command.split())
    loaded = [name for name in slow if name in sys.modules and name not in before]
    assert not loaded, (command, loaded)
"""


def test_help_waits_for_nothing_that_it_does_not_need(tmp_path):
    done = subprocess.run([sys.executable, "-c", QUICK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_collector_is_as_it_was_after_much_was_imported():
    code = "import gc; from relpretrain.cli import _much_imported\n"
    code += "with _much_imported(): assert not gc.isenabled()\nassert gc.isenabled()\nassert gc.get_freeze_count()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("os.name, sys.platform = 'nt', 'win32'", "ImportError: relpretrain runs on Linux, and this is win32"),
        ("sys.version_info = (3, 9, 1)", "ImportError: relpretrain needs Python 3.10 or newer"),
        ("sys.platform = 'darwin'", "UserWarning: relpretrain is tested on Linux alone, and this is darwin"),
        ("", ""),
    ],
)
def test_other_platforms_are_told_at_import(change, said):
    code = f"import os, sys\n{change}\nimport relpretrain"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)
    assert (done.returncode != 0) == ("ImportError" in said)
