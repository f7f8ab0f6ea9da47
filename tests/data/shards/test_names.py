"""Names that lists of shards hold lead nowhere but into their folder."""

import json

import pytest

from relpretrain.cli import main
from relpretrain.data.build.tasks import PLAN, Parts
from relpretrain.data.shards.resumable import UNFINISHED, ResumableWriter
from relpretrain.data.shards.writer import ShardWriter, is_plain
from tests.data.small import picture, record, write_shards

ELSEWHERE = ["../x.tar", "{}/x.tar", "a/../../x.tar", "..", ".", "", "x", 5, None, "link.tar/", "a\0.tar"]


@pytest.fixture
def folder(tmp_path):
    """A folder of shards beside a file that is not its own, and which it reaches by a link."""
    (tmp_path / "x.tar").write_bytes(b"mine")
    (tmp_path / "x").write_bytes(b"mine")
    out = tmp_path / "out"
    write_shards(out, 2)
    (out / "x").write_bytes(b"no shard")
    (out / "link.tar").symlink_to(tmp_path / "x.tar")
    return out


def _listing(folder, names):
    index = folder / "index.json"
    content = json.loads(index.read_text())
    content["shards"] += [{"name": n.format(folder.parent) if isinstance(n, str) else n} for n in names]
    index.write_text(json.dumps(content))


def test_overwriting_removes_nothing_outside(folder):
    _listing(folder, [*ELSEWHERE, "link.tar"])
    with ShardWriter(folder, prefix="new", overwrite=True) as writer:
        writer.write("k", picture(), "png", record())
    assert (folder.parent / "x.tar").read_bytes() == (folder.parent / "x").read_bytes() == b"mine"
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", "new-000000.tar", "x"]


@pytest.mark.parametrize("content", ["[]", '{"shards": 5}', "{}", "nothing"])
def test_what_is_no_list_of_shards_is_not_overwritten(tmp_path, content):
    (tmp_path / "index.json").write_text(content)
    for writer in (ShardWriter(tmp_path, overwrite=True), ResumableWriter(tmp_path, {}, overwrite=True)):
        with pytest.raises(ValueError, match=r"list of shards"), writer:
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_journal_moves_nothing_in(folder, name):
    name = name.format(folder.parent) if isinstance(name, str) else name
    assert not is_plain(name)
    work = folder / UNFINISHED
    work.mkdir()
    (work / "arguments.json").write_text("{}")
    entry = {"shard": {"name": name, "samples": 1}, "position": 1, "dropped": {}, "examples": {}}
    (work / "journal.jsonl").write_text(json.dumps(entry) + "\n")
    with pytest.raises(ValueError, match="remove"), ResumableWriter(folder, {}, overwrite=True):
        pass
    assert (folder.parent / "x.tar").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "line", ["5", "{}", '{"shard": 5, "position": 1}', '{"shard": {}, "position": "x"}', "[" * 99_999]
)
def test_a_damaged_journal_is_named(tmp_path, line):
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "arguments.json").write_text("{}")
    (tmp_path / UNFINISHED / "journal.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"journal.*damaged.*remove"), ResumableWriter(tmp_path, {}):
        pass


def test_merging_moves_nothing_in_and_carries_out_no_other_command(folder, capsys):
    out = folder.parent / "merged"
    words = ["pack", str(folder / "s-000000.tar"), "--out", str(out), "--task", "0/1"]
    assert main(["data", *words]) == 0
    part = next((out / ".tasks").glob("part-*.json"))
    stored = json.loads(part.read_text())
    part.write_text(json.dumps(stored | {"shard": stored["shard"] | {"name": "../../x.tar"}}))
    assert main(["data", "merge", str(out)]) == 2
    assert (folder.parent / "x.tar").read_bytes() == b"mine"
    plan = json.loads((out / ".tasks" / PLAN).read_text())
    other = ["synthetic", str(folder.parent / "world"), "--overwrite"]
    elsewhere = [*words[:3], str(folder), "--overwrite"]
    within = ["synthetic", str(out), "--images-captions", "none"]  # told by its parser, were it carried out
    for changed in (other, within, elsewhere, "pack", None):
        (out / ".tasks" / PLAN).write_text(json.dumps(plan | {"words": changed}))
        capsys.readouterr()
        assert main(["data", "merge", str(out)]) == 2
        assert "plan.json" in capsys.readouterr().err
    assert not (folder.parent / "world").exists()
    with pytest.raises(ValueError, match="damaged"):
        Parts(out / ".tasks").plan()


def test_merging_runs_no_command_that_a_plan_names(folder, capsys, monkeypatch):
    home, out = folder.parent, folder.parent / "found.json"
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(home / "cache"))
    words = ["doctor", str(folder / "s-000000.tar"), "--out", str(out), "--workers", "1"]
    assert main(["data", *words, "--task", "0/1"]) == 0
    (place,) = home.rglob(PLAN)
    plan = json.loads(place.read_text())
    plan["words"][1] = f"pipe:touch {home}/ran; cat {folder}/s-000000.tar"
    place.write_text(json.dumps(plan))
    capsys.readouterr()
    assert main(["data", "merge", str(out)]) != 0
    told = capsys.readouterr()
    assert "plan.json names: if all in there is yours, add --pipes" in told.out + told.err
    assert not (home / "ran").exists()
    main(["data", "merge", str(out), "--pipes"])
    assert (home / "ran").exists()
