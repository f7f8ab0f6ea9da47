import pytest

from relpretrain.sources.common.dropped import Dropped
from relpretrain.sources.common.tables import csv_rows, table_rows


def table(folder, text, name="t.csv"):
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_a_quote_that_is_never_closed_costs_its_row_alone(tmp_path):
    text = (
        '\ufeffa,b\r\n1,"x\r\ny"\r\n2,"open\n3,z\n\n4,"q"\n5,a"b\n6,"p"q,r\n7,"say ""hi"""\n8,\u2028\x85\n9,"open\n10,x'
    )
    assert list(csv_rows(table(tmp_path, text), "things")) == [
        (1, ["a", "b"]),
        (2, ["1", "x\ny"]),
        (4, None),
        (5, ["3", "z"]),
        (7, ["4", "q"]),
        (8, ["5", 'a"b']),
        (9, None),
        (10, ["7", 'say "hi"']),
        (11, ["8", "\u2028\x85"]),
        (12, None),
        (13, ["10", "x"]),
    ]


def test_tabs_know_no_quotes_across_lines(tmp_path):
    text = 'a\tb\n1\t"open\n2\the "said" it\n3\t"full ""stop"""\n4\t"a" b\n'
    assert [row for _, row in csv_rows(table(tmp_path, text), "things", "\t")] == [
        ["a", "b"],
        ["1", '"open'],
        ["2", 'he "said" it'],
        ["3", 'full "stop"'],
        ["4", '"a" b'],
    ]


def test_a_quote_far_away_is_not_looked_for(tmp_path):
    text = 'a,b\n1,"open\n' + "2,x\n" * 40_000 + '3,"z"\n'
    rows = list(csv_rows(table(tmp_path, text), "things"))
    assert len(rows) == 40_003
    assert rows[1] == (2, None)


def test_rows_that_do_not_fit_the_head_are_counted_with_their_line(tmp_path):
    dropped = Dropped()
    path = table(tmp_path, "image, caption\n1.jpg,a dog, a cat\n2.jpg\n3.jpg,x\n4.jpg,\n")
    rows = list(table_rows(path, "things", dropped))
    assert rows == [(4, {"image": "3.jpg", "caption": "x"}), (5, {"image": "4.jpg", "caption": ""})]
    assert (dropped, dropped.examples) == ({"malformed_row": 2}, {"malformed_row": ["t.csv, line 2", "t.csv, line 3"]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected names of columns in its first line, got none"),
        ("image,caption\ra.jpg,x\r", "ends its lines by carriage returns alone, expected line feeds"),
        ("image,caption,caption\na.jpg,x,y\n", "several columns called caption"),
    ],
)
def test_refuses_a_head_by_which_rows_would_vanish(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"t\.csv .*{message}"):
        list(table_rows(table(tmp_path, text), "things", Dropped()))


def test_a_line_in_another_encoding_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"image,caption\n1.jpg,caf\xe9\n")
    with pytest.raises(ValueError, match=r"t\.csv, line 2 is not UTF-8"):
        list(csv_rows(tmp_path / "t.csv", "things"))
