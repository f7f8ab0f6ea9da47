"""A shell with the script offers what a command takes."""

import shutil
import subprocess

import pytest

from relpretrain.cli import main
from relpretrain.recipe_files import bundled, listed
from relpretrain.terminal.completion import SHELLS, script, words


def test_words_are_those_of_the_parsers():
    found = dict(words())
    assert {"fit", "data", "zeroshot", "report", "--version"} <= set(found[""])
    assert {"convert", "pack", "doctor"} <= set(found["data"])
    assert "visual-genome" in found["data convert"]
    assert "--overwrite" in found["data pack"]
    assert found["data pack --join-captions"] == ["add", "replace"]
    assert found["fit -c"] == list(bundled())
    assert found["recipes show"] == list(listed())


def offered(line):
    """What bash offers at the end of a line."""
    typed = line.split(" ")
    code = f"{script('bash')}\nCOMP_WORDS=({' '.join(map(repr, typed))}); COMP_CWORD={len(typed) - 1}; _relpretrain\n"
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("relpretrain da", ["data"]),
        ("relpretrain data conv", ["convert"]),
        ("relpretrain data convert vr", ["vrd"]),
        ("relpretrain data convert vrd --ima", ["--images"]),
        ("relpretrain data pack x --join-captions a", ["add"]),
        ("relpretrain fit -c rex", ["rex_vlm"]),
        ("relpretrain fit --print", ["--print_config"]),
        ("relpretrain data pack x", []),  # then files
    ],
)
def test_bash(line, expected):
    assert offered(line) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_take_their_script(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell)
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", "/dev/stdin"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell_is_named(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
