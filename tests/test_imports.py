"""Imports go one way: a file may import its own room and rooms above it in this list, and every file has a room."""

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

import relpretrain

ROOMS = [
    *("version", "errors", "config_record", "identity", "pixels", "distributed", "reading", "threads", "allocator"),
    *("recipe_files", "progress", "kinds", "showing", "writing"),
    *("scene_graph", "types", "features", "sources.common", "sources"),
    *("data.shards", "data.sampling", "data.pipeline", "data.build", "data.join", "data"),
    *("synthetic", "dialogues"),
    *("backbones", "objectives", "checkpoints.official", "checkpoints"),
    "explain.maps",
    *("adapters.hosts", "adapters", "training.survival", "training", "training.command"),
    *("zeroshot.analysis", "zeroshot.scorers", "zeroshot.tasks.common", "zeroshot.tasks.composition"),
    *("zeroshot.tasks.relations", "zeroshot.tasks.squares", "zeroshot.tasks.choices", "zeroshot.tasks.retrieval"),
    "zeroshot.tasks",
    *("zeroshot.results", "zeroshot.report", "zeroshot"),
    "tagging",
    *("inspect.common", "inspect.doctor", "inspect.audit", "inspect.show", "inspect.run_report", "inspect"),
    "explain",
    "terminal",
    "cli",
]
NO_TORCH = ("scene_graph", "sources.common", "sources", "identity", "pixels", "reading", "progress", "errors", "kinds")
NO_TORCH += ("data.build", "data.join", "dialogues", "showing", "writing")
FOR_OBJECTIVES = ("errors", "reading", "config_record", "types", "distributed", "features", "scene_graph", "objectives")
LARGEST = 14
"""Files of a room, `__init__` and `__main__` aside: about a dozen."""

HOME = Path(relpretrain.__file__).parent
FILES = sorted(p for p in HOME.rglob("*.py") if p.parent != HOME or p.stem not in ("__init__", "__main__"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path) for path in FILES}


def room(module: str) -> str | None:
    """The innermost room of a module: a file outside all rooms has none."""
    inside = [name for name in ROOMS if module == name or module.startswith(f"{name}.")]
    return max(inside, key=len, default=None)


def imported(node: ast.AST) -> list[str]:
    """Full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, f"line {node.lineno}: imports are absolute"
    names = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name.removeprefix("relpretrain.") in MODULES else str(node.module) for name in names]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOME)))
def test_directions(path):
    own = room(dotted(path))
    assert own is not None, "a file outside all rooms: add its room to the list, with its place in the order"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported(node):
            assert not (own in NO_TORCH and name.split(".")[0] == "torch"), f"{own} does without torch"
            assert name.split(".")[0] not in ("benchmarks", "tests"), (
                f"line {node.lineno}: the wheel does not hold {name}"
            )
            module = name.removeprefix("relpretrain.")
            if module == name or module not in MODULES:
                continue
            other = room(module)
            assert ROOMS.index(other) <= ROOMS.index(own), f"line {node.lineno}: {own} imports {module}"
            assert own != "objectives" or other in FOR_OBJECTIVES, f"line {node.lineno}: objectives import {module}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda p: str(p.relative_to(HOME)))
def test_rooms_are_small(folder):
    files = [path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(files) <= LARGEST, f"{len(files)} files: divide the room"
    assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""'), "say what lives here"


def test_every_folder_of_tests_is_collected(pytestconfig):
    """By default pytest passes over folders of some names, of which `build` is one."""
    home = Path(__file__).parent
    patterns = pytestconfig.getini("norecursedirs")
    folders = {path.parent.relative_to(home) for path in home.rglob("test_*.py")}
    assert {str(f) for f in folders if any(fnmatch(part, p) for part in f.parts for p in patterns)} == set()
