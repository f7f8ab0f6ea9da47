import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from relpretrain.progress import Meter
from relpretrain.sources.common.files import Join, json_items, json_lines, json_pairs


def test_items_and_pairs(tmp_path):
    (tmp_path / "a.json").write_text('\ufeff [1, {"x": 0.5}]'.lstrip("\ufeff"))
    assert list(json_items(tmp_path / "a.json", "things")) == [1, {"x": 0.5}]
    (tmp_path / "b.json").write_text('{"meta": 1, "data": [1, 2], "k": {}}')
    assert list(json_items(tmp_path / "b.json", "things", "data.item")) == [1, 2]
    assert dict(json_pairs(tmp_path / "b.json", "things")) == {"meta": 1, "data": [1, 2], "k": {}}


@pytest.mark.parametrize("text", ['[{"a": 1}, {"b"', "[1, 2", "[nul]", "[1,]", "[1] x", '["\\ud8"]', '["a\nb"]'])
def test_a_file_cut_off_is_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json should hold things but is no JSON") as caught:
        list(json_items(path, "things"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "got"), [("{}", "an object"), ("3", "no JSON"), ("", "an empty file")])
def test_another_kind_of_file(tmp_path, text, got):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"expected a list, got {got}"):
        list(json_items(path, "things"))


def test_join_puts_together_what_comes_in_any_order():
    join = Join()
    for image, part, value in [("b", "x", 1), ("a", "x", {"k": [2]}), ("b", "y", 3), ("a", "x", 4)]:
        join.add(image, part, value)
    meter = Meter()
    assert [(image, pieces.read()) for image, pieces in join.images(meter)] == [
        ("b", {"x": [1], "y": [3]}),
        ("a", {"x": [{"k": [2]}, 4]}),
    ]
    assert (meter.stage, meter.done, meter.total) == ("converting", 2, 2)


def test_join_by_name():
    join = Join()
    for number in range(5000):
        join.add(str(number), "x", number)
    assert join.get("4999") == {"x": [4999]}
    assert join.get("7") == {"x": [7]}
    assert join.get("absent") == {}
    assert [join.meet(image, "x", [n]) for n, image in enumerate(("4999", "7", "7"))] == [None, None, [1]]
    assert len(list(join.unmet())) == 4998


def test_the_meter_reads_along(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n" * 1000)
    seen = []
    meter = Meter(listener=lambda m: seen.append(m.done))
    assert len(list(json_lines(path, "lines", meter))) == 1000
    assert seen == sorted(seen)
    assert meter.done == meter.total == 3000


PEAK = """
import re, sys
from collections import Counter
from pathlib import Path
from relpretrain.sources import read_visual_genome
folder = Path(sys.argv[1])
print(sum(1 for _ in read_visual_genome(folder, relationships=folder / sys.argv[2], dropped=Counter())))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # getrusage counts the parent's, too
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc, as Linux has it")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Besides SQLite's cache of some megabytes there is one image at a time."""
    rng = np.random.default_rng([3])

    def triplet():
        ends = [{"object_id": 1, "name": rng.bytes(8).hex(), "x": 1, "y": 1, "w": 9, "h": 9} for _ in range(2)]
        return {"relationship_id": 1, "predicate": rng.bytes(20).hex(), "subject": ends[0], "object": ends[1]}

    peaks = []
    for images in (100, 1600):
        name = f"r{images}.json"
        entries = [{"image_id": number, "relationships": [triplet() for _ in range(60)]} for number in range(images)]
        (tmp_path / name).write_text(json.dumps(entries))
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(tmp_path), name], capture_output=True, text=True, check=True
        ).stdout.split()
        assert int(done[0]) == images
        peaks.append(int(done[1]) / 1024)
    assert (tmp_path / "r1600.json").stat().st_size > 17e6
    assert peaks[1] - peaks[0] < 9  # megabytes; 11 with the pieces in memory
