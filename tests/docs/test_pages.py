"""README and tutorials, read as a newcomer would: their code and commands run, and what cannot be run is counted.

Names of the hub (bert-base-uncased) are replaced by a small tokenizer, and commands get further arguments that make
them small; what a page shows stays as it is.
"""

import subprocess

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.pipeline.tokenizer import write_wordpiece
from tests.docs.blocks import ROOT, Reader, blocks, commands

TUTORIALS = ROOT / "docs" / "tutorials"
WORDS = ["a an the of on under beside and two is not man rides horse cat dog table sits in red blue shirt left right"]
FIT = ["--trainer.max_steps=2", "--trainer.log_every_n_steps=1", "--data.num_workers=0", "--trainer.accelerator=cpu"]
ONE = ["--workers", "1"]
WORLD = ["--images-captions", "32", "--images-regions", "24", "--images-graphs", "48", "--images-validation", "48"]
WORLD += ["--items-vsr", "4", "--items-valse", "3"]

ADDITIONS = {
    "quickstart": {
        "relpretrain data synthetic": WORLD,
        "relpretrain data show": ["--n", "2"],
        "relpretrain fit": [*FIT, "--trainer.val_check_interval=2", "--data.validation_batches=1"],
    },
    "own_photos": {
        "relpretrain data convert": ONE,
        "relpretrain fit": FIT,
    },
    "your_codebase": {
        "relpretrain data synthetic": ["--images-graphs", "32", "--items-vsr", "2", "--items-valse", "2"]
    },
    "captions_to_graphs": {"relpretrain data convert": ONE, "relpretrain data label": ONE},
    "score_and_compare": {"relpretrain data synthetic": ["--items-vsr", "4", "--items-valse", "6"]},
    "cluster_run": {},
    "recipes": {},
}

NOT_RUN = {
    "README.md": 2,
    "docs/tutorials/quickstart.md": 1,
    "docs/tutorials/own_photos.md": 1,
    "docs/tutorials/your_codebase.md": 1,
    "docs/tutorials/captions_to_graphs.md": 0,
    "docs/tutorials/score_and_compare.md": 2,
    "docs/tutorials/cluster_run.md": 6,
    "docs/howto/install.md": 1,
    "docs/howto/many_processes.md": 1,
    "docs/howto/official_checkpoints.md": 1,
    "docs/howto/recipes.md": 1,
}
"""Blocks of a page that its source marks as not run, each with its reason there."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The photos that the tutorials speak of, with a text file beside each, and a tokenizer."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    texts = {"a": "a man rides a horse", "b": "two cats", "c": "a dog under a table"}
    for name, text in texts.items():
        pixels = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=60)
        (folder / f"{name}.txt").write_text(text)
    return folder, str(write_wordpiece(WORDS, tmp_path_factory.mktemp("words") / "tokenizer"))


@pytest.mark.parametrize("name", ADDITIONS)
def test_a_newcomer_types_the_page_along(name, photos, tmp_path, monkeypatch):
    folder, tokenizer = photos
    (tmp_path / "photos").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    page = TUTORIALS / f"{name}.md" if (TUTORIALS / f"{name}.md").is_file() else ROOT / "docs" / "howto" / f"{name}.md"
    reader = Reader(tmp_path, ADDITIONS[name], {"bert-base-uncased": tokenizer})
    reader.read(page)
    ran = [block for block in blocks(page) if block.language in ("bash", "python") and not block.left_out]
    assert ran or name == "cluster_run"


@pytest.mark.parametrize("page", NOT_RUN)
def test_what_is_not_run_is_marked_with_its_reason_and_counted(page):
    found = blocks(ROOT / page)
    assert sum(bool(block.left_out) for block in found) == NOT_RUN[page]
    for block in found:
        assert block.language, f"a block of {page} has no language"
        assert block.language in ("bash", "python", "yaml", "json", "text")


def test_every_page_of_these_kinds_is_counted():
    pages = [*TUTORIALS.glob("*.md"), *(ROOT / "docs" / "howto").glob("*.md"), ROOT / "README.md"]
    assert {str(page.relative_to(ROOT)) for page in pages} == set(NOT_RUN)


@pytest.mark.parametrize("target", ["quickstart", "compare", "test", "docs"])
def test_make_knows_its_targets(target):
    told = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("page", NOT_RUN)
def test_commands_that_are_not_run_exist_with_their_options(page):
    from docs.generate.commands import parser_of, subcommands

    for block in blocks(ROOT / page):
        if not block.left_out or block.language != "bash":
            continue
        for words in commands(block.text):
            if words[0] != "relpretrain" or words[1] == "fit":
                continue
            parser, rest = parser_of(words[1]), words[2:]
            assert parser is not None, words
            while below := subcommands(parser):
                assert rest[0] in below, words
                parser, rest = below[rest[0]], rest[1:]
            known = parser._option_string_actions
            assert all(word.partition("=")[0] in known for word in rest if word.startswith("--")), words
