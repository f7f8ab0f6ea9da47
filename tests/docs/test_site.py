"""The site's pages: none is left out, links lead somewhere, and what is generated holds what it must."""

import re

import pytest
import yaml

from docs.generate.pictures import FOLDER, PICTURES
from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
GENERATED = {"reference/commands.md", "reference/recipe_keys.md", "changelog.md", "contributing.md", "security.md"}
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?[^)]*\)")


def navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def files(entry):
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [file for value in values for file in files(value)]

    return files(config["nav"])


def test_every_page_stands_in_the_navigation_once():
    named = navigation()
    assert len(named) == len(set(named))
    api = {name for name in named if name.startswith("reference/api/")}
    notebooks = {f"notebooks/{path.stem}.md" for path in (DOCS / "notebooks").glob("*.ipynb")}
    files = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert set(named) == files | GENERATED | api | notebooks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for path in filter(None, LINK.findall(re.sub(r"`[^`]*`", "", text))):
        target = (page.parent / path).resolve()
        assert target.exists(), f"{path} leads nowhere in a checkout"


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_those_that_the_script_draws(name):
    assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == PICTURES[name]().svg()


def test_pages_ask_no_other_server():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    assert "http" not in config
    assert "http" not in (DOCS / "site.css").read_text(encoding="utf-8")


def test_every_command_and_option_is_on_the_page_of_commands():
    from docs.generate.commands import commands_page
    from relpretrain.cli import COMMANDS

    page = commands_page()
    assert all(f"relpretrain {name}" in page or name in ("validate", "test", "predict") for name in COMMANDS)
    for option in ("--tokenizer", "--side-by-side A", "--hold-out-pairs", "--shorter-side", "--task"):
        assert option.split()[0] in page
    assert "SUPPRESS" not in page
    assert "%(" not in page


def test_every_key_of_a_recipe_is_on_its_page():
    import inspect

    from docs.generate.recipes import recipes_page
    from relpretrain.backbones import XVLM
    from relpretrain.data import RelationDataModule, Stream
    from relpretrain.objectives import MRC, VSG

    page = recipes_page()
    for of in (XVLM, RelationDataModule, Stream, MRC, VSG):
        for name in inspect.signature(of).parameters:
            assert name in ("seed", "overrides") or f"| `{name}` |" in page, f"{of.__name__}.{name}"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    described = [row for row in rows if row.rstrip(" |").count("|") >= 3]
    assert len(described) > 0.9 * len(rows)  # keys with a description
