from types import SimpleNamespace

from tests.conftest import HOME, LONGEST, pytest_collection_modifyitems


def test_the_longest_files_are_there_and_come_first():
    assert [name for name in LONGEST if not (HOME / name).is_file()] == []
    names = [*("test_cli.py", 1), *(LONGEST[1], 2), *("data/test_faults.py", 3), *(LONGEST[0], 4), *(LONGEST[0], 5)]
    items = [SimpleNamespace(path=HOME / name, n=n) for name, n in zip(names[::2], names[1::2], strict=True)]
    pytest_collection_modifyitems(items)
    assert [item.n for item in items] == [4, 5, 2, 1, 3]
