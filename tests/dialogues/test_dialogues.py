import json
import re

import pytest

from relpretrain.cli import main
from relpretrain.dialogues.make import KINDS, Settings, make_dialogues
from relpretrain.inspect.show.dialogues import page
from tests.dialogues.world_checker import check, make_world


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), 200)


def tars(folder):
    return sorted(map(str, folder.glob("*.tar")))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_statement_is_true_of_the_world(shards, tmp_path):
    counts = make_dialogues(tars(shards), tmp_path / "d.json", Settings(KINDS, 60, turns=9))
    assert counts["conversations"] == 60 * len(KINDS)
    checked = check(tmp_path / "d.json", shards)
    assert len(checked) == 14, sorted(checked)  # every form came, but attributes, which no square has
    assert min(checked.values()) >= 3, checked


def test_equal_seeds_give_equal_bytes_with_any_number_of_workers(shards, tmp_path):
    settings = Settings(KINDS, 20, seed=3)
    for workers, name in ((1, "a"), (2, "b")):
        (tmp_path / name).mkdir()
        make_dialogues(tars(shards), tmp_path / name / "d.json", settings, workers)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    (tmp_path / "c").mkdir()
    make_dialogues(tars(shards), tmp_path / "c/d.json", Settings(KINDS, 5, seed=4))
    first = json.loads((tmp_path / "a/d.json").read_text())[:5]
    assert json.loads((tmp_path / "c/d.json").read_text())[:5] != first


def test_few_shots_ask_the_same_of_other_images(shards, tmp_path):
    make_dialogues(tars(shards), tmp_path / "d.json", Settings(KINDS, 10, shots=2))
    check(tmp_path / "d.json", shards)
    for entry in json.loads((tmp_path / "d.json").read_text()):
        assert len(entry["forms"]) == 3
        assert len(set(entry["forms"])) == 1
        assert len(entry["image"]) == (3 if entry["kind"] == "single" else 6)
        assert "".join(turn["value"] for turn in entry["conversations"]).count("<image>\n") == len(entry["image"])


@pytest.mark.parametrize("form", ["llava", "messages"])
def test_the_page_shows_each_question_with_its_own_images(shards, tmp_path, form):
    make_dialogues(tars(shards), tmp_path / "d.json", Settings(KINDS, 3, shots=2, form=form))
    entries = json.loads((tmp_path / "d.json").read_text())
    for entry in entries:
        images = entry["images"] if form == "messages" else entry["image"]
        shown = page([entry], tmp_path / "d.json")
        assert re.findall("<img [^>]*alt='([^']*)'", shown) == images
        questions = shown.split("class='asks'")[:-1]
        assert [part.count("<img") for part in questions] == [len(images) // 3] * 3


def test_the_command_writes_messages_and_a_page(shards, tmp_path, capsys):
    out, written = tmp_path / "d.json", tmp_path / "page.html"
    words = ("--kinds", "semantic", "--pairs", "5", "--format", "messages", "--page", str(written), "--workers", "1")
    assert main(["data", "dialogues", str(shards), "--out", str(out), *words]) == 0
    told = capsys.readouterr().out
    assert "semantic: 5 conversations: " in told
    entry = json.loads(out.read_text())[0]
    assert [message["role"] for message in entry["messages"][:2]] == ["user", "assistant"]
    assert all((tmp_path / name).is_file() for name in entry["images"])
    shown = written.read_text()
    assert shown.count("<img") == 10
    assert "semantic-000004" in shown
    assert main(["data", "dialogues", str(shards), "--out", str(out), *words]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "("], "is no regular expression"),
        (["--frames", "(?P<frame>x)"], "lacks (?P<video>...)"),
        (["--shots", "-1"], "expected 0 or more"),
        (["--kinds", "temporal"], None),
    ],
)
def test_mistakes_are_a_line(shards, tmp_path, capsys, words, said):
    status = main(["data", "dialogues", str(shards), "--out", str(tmp_path / "d.json"), "--pairs", "1", *words])
    error = capsys.readouterr().err
    if said is None:
        assert status == 0
    else:
        assert status == 2
        assert said in error
        assert error.count("\n") == 1
