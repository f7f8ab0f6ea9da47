import json
import re
from pathlib import Path

import pytest

import relpretrain
from relpretrain.errors import MISTAKES, ConfigError
from relpretrain.reading import decode, mend, parse_json, read_json, read_json_lines, read_lines


def test_a_byte_order_mark_is_skipped_and_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028\x0b\x85\x0c\x1cstill one\r\n\ufefftwo\rstill two\n\nfour".encode())
    assert read_lines(path) == ["one\u2028\x0b\x85\x0c\x1cstill one", "two\rstill two", "", "four"]
    path.write_bytes(b"")
    assert read_lines(path) == []


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (r'"a \ud83d"', "a \ufffd"),
        (r'"\ud83d\ude3a"', "\U0001f63a"),
        (r'"\ude3a\ud83d"', "\ufffd\ufffd"),
        (r'"\ud83d\ud83d\ude3a"', "\ufffd\U0001f63a"),
        (r'"\\ud83d"', r"\ud83d"),
        (r'"\\\uD83Dx"', "\\\ufffdx"),
        (r'{"\ud83d": ["\udc00"]}', {"\ufffd": ["\ufffd"]}),
        ("[1e999, -Infinity]", [float("inf"), float("-inf")]),
        ("[" + "9" * 5000 + "]", [float("inf")]),
        ('\ufeff {"a": 1, "a": 2}\n', {"a": 2}),
    ],
)
def test_json_holds_no_half_character_and_takes_any_number(text, meaning):
    assert parse_json(text.encode()) == meaning
    json.dumps(parse_json(text.encode()), ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["", "{", "[1] 2", "[" * 100_000, '"\\ud8"', "nul", b"\xff"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"Expecting|Extra|Invalid|nested|not UTF-8"):
        parse_json(text)


def test_other_encodings_are_one_line_with_a_remedy(tmp_path):
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        with pytest.raises(ValueError, match=r"F is UTF-(16|32), expected UTF-8: convert it \(iconv -f UTF-(16|32)"):
            decode('{"a": 1}'.encode(encoding), "F")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{}\n{"a": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is not UTF-8 \(byte 0xe9\): convert it"):
        list(read_json_lines(path))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is not UTF-8"):
        read_json(path, "things")
    assert decode(b"caf\xe9", "F", "replace") == "caf\ufffd"
    path.write_text("{}\n{\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is no JSON"):
        list(read_json_lines(path))
    with pytest.raises(ValueError, match=r"cannot read things .*absent\.json: No such file"):
        read_json(tmp_path / "absent.json", "things")


def test_names_of_files_are_mended():
    assert mend("caf\udce9 \ud83d\ude3a") == "caf\ufffd \U0001f63a"
    assert mend("café") == "café"


def test_no_other_module_of_the_data_reads_text():
    """One rule holds only where one place reads: what a user gives goes through `relpretrain.reading`."""
    home = Path(relpretrain.__file__).parent
    own = {"data/shards/resumable.py", "data/shards/row_index.py"}  # what they parse by themselves is what they wrote
    for room in ("sources", "scene_graph", "data"):
        for path in sorted((home / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found = re.findall(r"json\.loads?\(|\.read_text\(|splitlines\(\)", text)
            name = str(path.relative_to(home))
            allowed = {
                "sources/common/files.py": 2,
                "data/pipeline/tokenizer.py": 1,
            }  # pieces of its own; the first line of an error
            assert name in own or len(found) <= allowed.get(name, 0), f"{name}: {found}"


def test_all_lines_that_are_no_json_are_told_and_nothing_is_read_after_the_first(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{\n\n{"a": 2}\n[1] 2\n')
    read = []
    with pytest.raises(ConfigError) as caught:
        read.extend(number for number, _ in read_json_lines(path))
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        f"{path}, line {number} is no JSON" for number in (2, 5)
    ]
    path.write_text("{}\n" + "{\n" * 100)
    with pytest.raises(ConfigError) as caught:
        list(read_json_lines(path))
    assert len(caught.value.problems) == MISTAKES + 1
    assert caught.value.problems[-1] == f"and perhaps more: {path} was read no further"


def test_an_object_over_several_lines_is_one_mistake(tmp_path):
    path = tmp_path / "a.jsonl"
    for content in ({"a": 1, "b": 2}, {"a": 1, "boxes": [1, 2], "b": "c"}):
        path.write_text(json.dumps(content, indent=1))
        with pytest.raises(ConfigError, match="; no line is: write one JSON object on each line") as caught:
            list(read_json_lines(path))
        assert len(caught.value.problems) == 1


def test_what_is_said_of_a_file_of_many_lines_is_true_of_those_that_were_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" * MISTAKES + "{}\n")
    with pytest.raises(ConfigError, match=f"; none of the first {MISTAKES} lines is: write one JSON object") as caught:
        list(read_json_lines(path))
    assert len(caught.value.problems) == 1
