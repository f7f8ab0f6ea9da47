import math
from collections import Counter

import pytest

from relpretrain.sources.common.values import as_number, identity, listed, size_of, truth

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((v, False) for v in (0, 0.0, "0", "0.0", "false", "False", " no ", "", None, False, NAN, "null")),
        *((v, True) for v in (1, 1.0, "1", "true", "TRUE", "yes", True)),
        *((v, None) for v in (2, "maybe", [1], {}, -1, math.inf)),
    ],
)
def test_truth_in_any_spelling(value, expected):
    assert truth(value) is expected


def test_numbers_be_they_texts():
    assert [as_number(v) for v in (3, 2.5, "4", " 1e2 ")] == [3, 2.5, 4.0, 100.0]
    assert all(math.isnan(as_number(v)) for v in ("x", None, True, [], {}, NAN))
    assert as_number(10**400) == math.inf


def test_sizes_are_whole_and_positive_or_unknown():
    assert size_of(64, "48") == size_of(64.0, 48) == (64, 48)
    for pair in ((None, None), (-1, -1), (64, None), (NAN, 48), (64, 0), (64, 48.5), ("x", 1), (10**400, 1), (True, 1)):
        assert size_of(*pair) is None


def test_identity_of_numbers_and_texts():
    assert [identity(v) for v in (1, "1", 1.0, 0, "a.jpg")] == ["1", "1", "1", "0", "a.jpg"]
    assert [identity(v) for v in (None, "", True, NAN, [], {}, 1.5, 10**5000)] == [None] * 8


def test_a_thing_alone_is_a_list_of_one():
    dropped = Counter()
    assert [listed(v, dropped, "bad") for v in ("tall", ["a", 1], ("b",), {"k": 1}, None, NAN)] == [
        ["tall"],
        ["a", 1],
        ["b"],
        [{"k": 1}],
        [],
        [],
    ]
    assert not dropped
    assert listed(3, dropped, "bad") == []
    assert dropped == {"bad": 1}
