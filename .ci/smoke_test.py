"""What must work where only the wheel is installed: `.ci/smoke` runs this in an empty folder.

python smoke_test.py WHEEL
"""

import subprocess
import sys
import zipfile
from importlib.metadata import files, version
from pathlib import Path

RECIPES = {"albef", "finetune", "quickstart", "realbef", "rex_vlm", "xvlm", "finetune_clip.py"}
WORLD = "runs/quickstart/data"


def run(*command: str, code: int = 0) -> str:
    """Run a command, and give what it printed."""
    print("$", *command, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != code:
        sys.exit(f"exit status {done.returncode} instead of {code}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout + done.stderr


def check(truth: bool, what: str) -> None:
    """End with an error unless something holds."""
    if not truth:
        sys.exit(f"not so: {what}")


def main(wheel: str) -> None:
    """Look at the wheel, then use what it installed."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    check(len(tops) == 2 and "relpretrain" in tops, f"the wheel holds relpretrain and its metadata alone: {tops}")
    check(not [name for name in names if "test" in Path(name).name.split("_")], "it holds no tests")
    import relpretrain

    home = Path(relpretrain.__file__).parent
    check(home.parent.name == "site-packages", f"relpretrain is the installed one, not {home}")
    check(relpretrain.__version__ == version("relpretrain"), "the version stands in one place")
    scripts = {file.name for file in files("relpretrain") or () if file.parent.name == "bin"}
    check({"relpretrain", "lightning"} <= scripts, f"both commands are installed: {scripts}")

    check(relpretrain.__version__ in run("relpretrain", "--version"), "--version")
    listed = {line.split()[0] for line in run("relpretrain", "recipes").splitlines()}
    check(listed >= RECIPES, f"the recipes are there: {listed}")
    run("relpretrain", "recipes", "copy", "rex_vlm", "mine")
    run("relpretrain", "completion", "bash")
    check("did you mean 'rex_vlm'" in run("lightning", "fit", "-c", "rexvlm.yaml", code=2), "a near name is suggested")
    settings = run("lightning", "fit", "-c", "rex_vlm.yaml", "--print_config")
    check(all(name in settings for name in ("XVLM", "MRC", "VSG")), "fit prints the settings of a recipe by its name")

    images = ("captions", "regions", "graphs", "validation")
    run("relpretrain", "data", "synthetic", WORLD, *(part for name in images for part in (f"--images-{name}", "60")))
    few = ("--trainer.max_steps=6", "--trainer.log_every_n_steps=2", "--trainer.val_check_interval=6")
    run("lightning", "fit", "-c", "quickstart", *few)
    checkpoint = "runs/quickstart/checkpoints/last.ckpt"
    options = ("--tasks", "vsr", "--data", f"{WORLD}/benchmarks", "--out", "runs/quickstart/report")
    run("relpretrain", "zeroshot", "--checkpoint", checkpoint, *options)
    run("relpretrain", "report", "runs/quickstart")
    check(Path("runs/quickstart/report/losses.png").is_file(), "the report has its picture")
    code = f"import relpretrain; print(relpretrain.load({checkpoint!r}))"
    check("XVLM" in run(sys.executable, "-c", code), "the checkpoint loads")
    print(f"relpretrain {relpretrain.__version__} on Python {sys.version.split()[0]}: all of it works")


if __name__ == "__main__":
    main(sys.argv[1])
