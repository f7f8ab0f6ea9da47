"""MkDocs' hook: adds the generated pages to the site, and lets links that leave `docs/` lead to pages of the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # MkDocs loads a hook by its path

from mkdocs.structure.files import File, Files  # noqa: E402

from docs.generate.api import api_pages  # noqa: E402
from docs.generate.commands import commands_page  # noqa: E402
from docs.generate.notebooks import notebook_page  # noqa: E402
from docs.generate.recipes import recipes_page  # noqa: E402

_OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Pages of the project's root, and where they stand on the site."""

_LINK = re.compile(r"\]\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add what is generated."""
    pages = {"reference/commands.md": commands_page(), "reference/recipe_keys.md": recipes_page(), **api_pages()}
    for name, place in _OUTSIDE.items():
        pages[place] = _from_root((ROOT / name).read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"] = notebook_page(path)
    for place, text in pages.items():
        if (standing := files.get_file_from_path(place)) is not None:
            files.remove(standing)  # says in a checkout where to find what is generated
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links of a page of `docs/` to the project's root: to the page on the site, or, to a file, as its name alone."""
    up = "../" * page.file.src_uri.count("/")

    def lead(link: re.Match[str]) -> str:
        path, anchor = link["path"], link["anchor"] or ""
        outside = path.removeprefix(up + "../")
        if not path.startswith(up + "../") or outside.startswith("../"):
            return link[0]
        if outside == "README.md":
            return f"]({up}index.md)"
        return f"]({up}{_OUTSIDE[outside]}{anchor})" if outside in _OUTSIDE else "]" + _NOWHERE

    return re.sub(r"\[([^\]]*)\]" + re.escape(_NOWHERE), r"`\1`", _LINK.sub(lead, markdown))


_NOWHERE = "(nowhere)"
"""Mark of a link to a file that is not on the site, such as a recipe."""


def _from_root(text: str) -> str:
    """A page of the root whose links to `docs/` lead to pages beside it, and those to other files are names."""

    def lead(link: re.Match[str]) -> str:
        path, anchor = link["path"], link["anchor"] or ""
        if path.startswith("docs/"):
            return f"]({path.removeprefix('docs/')}{anchor})"
        if path in _OUTSIDE:
            return f"]({_OUTSIDE[path]}{anchor})"
        return "](index.md)" if path == "README.md" else "]" + _NOWHERE

    return re.sub(r"\[([^\]]*)\]" + re.escape(_NOWHERE), r"`\1`", _LINK.sub(lead, text))
