"""Imports go one way: a room may only import rooms above it in this list."""

import ast
from pathlib import Path

import pytest

import relpretrain

ROOMS = [
    *("errors", "reading", "version", "recipe_files", "config_record", "types", "distributed", "threads", "features"),
    *("scene_graph", "sources", "data"),
    *(
        "hub",
        "backbones",
        "objectives",
        "checkpoint",
        "weights",
        "adapters",
        "training",
        "zeroshot",
        "viz",
        "evidence",
        "cli",
    ),
]
HOME = Path(relpretrain.__file__).parent
FOR_OBJECTIVES = {"errors", "config_record", "types", "distributed", "threads", "features", "scene_graph", "objectives"}
FILES = sorted(p for p in HOME.rglob("*.py") if p.parent != HOME or p.stem not in ("__init__", "__main__"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOME)))
def test_directions(path):
    own = room(path.relative_to(HOME).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if names == ["relpretrain"]:
            names = [f"relpretrain.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            assert not (own in ("scene_graph", "sources") and first == "torch"), f"{own} does without torch"
            if first != "relpretrain" or not rest or rest[0] not in ROOMS:
                continue
            assert ROOMS.index(rest[0]) <= ROOMS.index(own), f"line {node.lineno}: {own} imports {rest[0]}"
            assert own != "objectives" or rest[0] in FOR_OBJECTIVES, f"line {node.lineno}: objectives import {rest[0]}"
