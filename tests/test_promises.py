"""Every test that docs/reliability.md names as the keeper of a promise is there."""

import re
from pathlib import Path

HOME = Path(__file__).parents[1]


def test_the_keepers_of_promises_are_there():
    named = re.findall(r"`((?:tests/|test_)\w[\w/.]*)`", (HOME / "docs/reliability.md").read_text(encoding="utf-8"))
    files = {path.relative_to(HOME).as_posix(): path.read_text(encoding="utf-8") for path in HOME.glob("tests/**/*.py")}
    assert len(named) > 30
    for name in named:
        if name.endswith(".py"):
            assert [path for path in files if path == name or path.endswith(f"/{name}")], name
        else:
            assert [path for path, text in files.items() if f"def {name}(" in text], name
