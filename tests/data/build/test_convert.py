import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relpretrain.cli import main
from relpretrain.data.build import jobs as parallel
from relpretrain.data.build.convert_sources import SOURCES
from relpretrain.data.sampling.exclusion import Exclusion, phash
from relpretrain.data.shards import resumable as resuming
from relpretrain.data.shards import writer as writing
from tests.data.build.converting import (
    alive,
    children,
    contents,
    convert,
    fill_disk_at,
    in_a_child,
    kill_at,
    records,
    words,
)
from tests.sources.helpers import write_image, write_json


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """What an uninterrupted conversion in one process writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert convert(*words(photos, out)) == 0
    return contents(out)


def test_the_index_tells_all(whole, photos):
    index = json.loads(whole["index.json"])
    assert [s["name"] for s in index["shards"]] == [f"shard-{i:06d}.tar" for i in range(8)]
    assert (index["samples"], index["relations"], index["entities"]) == (30, 90, 90)
    assert sum(index["relation_counts"].values()) == 90
    assert index["dropped"] == {"image_without_annotation": 6, "missing_image": 4, "repeated_relation": 30}
    assert index["source"] == "vrd"
    assert index["options"] == {
        "annotations": str(photos / "annotations.json"),
        "duplicates": "drop",
        "images": str(photos),
        "inverses": "keep",
        "samples_per_shard": 4,
        "source": "vrd",
        "source_kind": "vrd",
    }


def test_processes_do_not_change_a_byte(photos, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 3)
    assert convert(*words(photos, tmp_path / "out", workers=2)) == 0
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("module", "name", "call", "after"),
    [
        (writing.ShardFile, "write", 1, True),
        (writing.ShardFile, "write", 10, False),  # in the third shard
        (writing.ShardFile, "finish", 2, False),
        (writing.ShardFile, "finish", 3, True),  # named, but not in the journal
        (writing.ShardFile, "finish", 8, True),  # the last one
        (resuming, "publish", 1, False),
        (os, "replace", 11, True),  # some shards have moved: 8 were named before
        (resuming, "publish", 1, True),  # all but clearing up
    ],
)
def test_a_killed_conversion_goes_on(photos, whole, tmp_path, capsys, module, name, call, after):
    out = tmp_path / "out"

    def run():
        kill_at(module, name, call, after)
        convert(*words(photos, out))

    assert in_a_child(run) == -signal.SIGKILL
    finished = name == "publish" and after
    assert (out / "index.json").exists() == finished
    capsys.readouterr()
    work = out / resuming.UNFINISHED
    done = len((work / "journal.jsonl").read_bytes().splitlines()) if (work / "journal.jsonl").exists() else 0
    assert done == {("finish", 2): 1, ("finish", 3): 2, ("finish", 8): 7, ("write", 10): 2, ("write", 1): 0}.get(
        (name, call), 8
    )
    stamps = {p.name: p.stat().st_mtime_ns for p in work.glob("*.tar")}
    assert convert(*words(photos, out, *(["--overwrite"] if finished else []))) == 0
    assert (f"going on after {done} finished shard" in capsys.readouterr().err) == (done > 0)
    kept = {name: stamp for name, stamp in stamps.items() if (out / name).stat().st_mtime_ns == stamp}
    assert len(kept) == min(done, len(stamps))  # finished shards are not written again
    assert contents(out) == whole


def test_a_journal_cut_in_mid_line(photos, whole, tmp_path):
    out = tmp_path / "out"

    def run():
        kill_at(writing.ShardFile, "finish", 4, after=True)
        convert(*words(photos, out))

    assert in_a_child(run) == -signal.SIGKILL
    journal = out / resuming.UNFINISHED / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert convert(*words(photos, out)) == 0
    assert contents(out) == whole


SLOW = """
import sys, time
from relpretrain.cli import main
from relpretrain.data.build import jobs as parallel
from relpretrain.data.shards.resumable import ResumableWriter
add = ResumableWriter.add
def slow(self, *args):
    time.sleep(0.05)
    add(self, *args)
ResumableWriter.add = slow
parallel.CHUNK = 2
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc, as Linux has it")
def test_sigkill_of_a_parallel_conversion(photos, whole, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    out = tmp_path / "out"
    command = [sys.executable, str(script), "data", "convert", *map(str, words(photos, out, workers=2))]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    journal = out / resuming.UNFINISHED / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert len(workers) >= 2
    assert not (out / "index.json").exists()
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)  # nobody is left behind
    assert convert(*words(photos, out, workers=1)) == 0
    assert contents(out) == whole


def test_unfinished_work_of_other_arguments_is_not_taken_over(photos, whole, tmp_path, capsys):
    out = tmp_path / "out"

    def run():
        kill_at(writing.ShardFile, "finish", 2, after=False)
        convert(*words(photos, out, "--inverses", "drop"))

    assert in_a_child(run) == -signal.SIGKILL
    assert convert(*words(photos, out)) == 2
    error = capsys.readouterr().err
    assert "unfinished conversion with other arguments or files (options)" in error
    assert "--overwrite" in error
    assert convert(*words(photos, out, "--overwrite")) == 0
    assert contents(out) == whole


def test_two_writers_of_one_folder(photos, tmp_path, capsys):
    out = tmp_path / "out"
    with resuming.ResumableWriter(out, {}) as writer:
        writer.add(("a", b"1", "jpg", {}), {})
        assert convert(*words(photos, out)) == 2
        assert f"another process writes to {out}" in capsys.readouterr().err


def test_a_full_disk_is_told_and_nothing_is_lost(photos, whole, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        fill_disk_at(patch, 2)
        assert convert(*words(photos, out)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{out}: no space left on device; 2 finished shards" in error
    assert "run the same command again" in error
    assert [path.name for path in out.iterdir()] == [resuming.UNFINISHED]  # nothing under a final name
    assert not list(out.rglob("*.part"))
    assert convert(*words(photos, out)) == 0
    assert contents(out) == whole


def test_exclusion_by_id_and_by_look(tmp_path, capsys):
    rng = np.random.default_rng([5])
    rows = {}
    for name in ("a", "b", "c", "d"):
        path = tmp_path / f"photos/{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        noise.resize((300, 200), Image.Resampling.BICUBIC).save(path, quality=90)
        rows[path.name] = f"photo {name}"
    with Image.open(tmp_path / "photos/c.jpg") as image:
        small = phash(image.resize((150, 100)))
    Exclusion(frozenset({"a.jpg", "b"}), (small,)).save(tmp_path / "list.json")
    table = write_json(tmp_path / "t.json", rows)
    out = tmp_path / "out"
    named = ("image-text", "--images", tmp_path / "photos", "--captions", table, "--exclude", tmp_path / "list.json")
    assert convert(*named, "--out", out) == 0
    assert [r["image_id"] for r in records(out)] == ["d.jpg"]
    assert "dropped: 2 excluded_id, 1 excluded_phash\n" in capsys.readouterr().out
    assert json.loads((out / "index.json").read_text())["dropped"] == {"excluded_id": 2, "excluded_phash": 1}


def test_names_and_copies(photos, tmp_path):
    (tmp_path / "objects.txt").write_text("human,Person,man\n")
    (tmp_path / "relations.txt").write_text("wears,wear\n")
    more = ("--object-aliases", tmp_path / "objects.txt", "--relation-aliases", tmp_path / "relations.txt")
    assert convert(*words(photos, tmp_path / "out", *more, "--duplicates", "keep")) == 0
    found = records(tmp_path / "out")
    assert {e["label"] for r in found for e in r["entities"]} == {"human", "hat"}
    assert {t["relation"] for r in found for t in r["relations"]} == {"wears", "on"}
    assert {len(r["relations"]) for r in found} == {4}


def test_the_listed_sources():
    assert {*SOURCES} == {
        *("visual-genome", "gqa", "vrd", "psg", "open-images", "coco", "albef-json", "xvlm-jsonl"),
        *("image-text", "own", "hico-det"),
    }


def test_a_worker_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 1)
    with pytest.raises(OSError, match=r"worker process died.*fewer --workers"):
        list(parallel.ordered_map(os._exit, [3] * 9, 2))


PEAK = """
import re, sys
from pathlib import Path
from relpretrain.cli import main
status = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc, as Linux has it")
@pytest.mark.slow
def test_a_gigabyte_of_relationships_in_bounded_memory(tmp_path):
    rng = np.random.default_rng([7])

    def end():
        box = dict(zip("xywh", rng.integers(1, 200, 4).tolist(), strict=True))
        return {"object_id": int(rng.integers(1 << 30)), "name": rng.bytes(4).hex(), "synsets": ["man.n.01"]} | box

    relations = [
        {"relationship_id": 1, "predicate": "ON", "synsets": [], "subject": end(), "object": end()} for _ in range(4000)
    ]
    texts = [json.dumps(relations[start : start + 50]) for start in range(0, 4000, 50)]
    path, size, number = tmp_path / "relationships.json", 0, 0
    with path.open("w") as file:
        while size < 1e9:
            number += 1
            entry = f'{{"image_id": {number}, "relationships": {texts[number % len(texts)]}}}'
            size += file.write(("[" if number == 1 else ",") + entry)
        file.write("]")
    for image in range(1, 101):
        write_image(tmp_path / f"images/{image}.jpg", (400, 400))
    arguments = ("--images", tmp_path / "images", "--relationships", path, "--out", tmp_path / "out", "--workers", 2)
    command = [sys.executable, "-c", PEAK, "data", "convert", "visual-genome", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    print(f"{number} images, peak {int(done[-1]) / 1024:.0f} MiB")
    assert len(records(tmp_path / "out")) == 100
    assert int(done[-1]) < 1 << 20  # KiB


def test_places_of_what_is_left_out_are_told(tmp_path, capsys):
    for number in (0, 4):
        write_image(tmp_path / "photos" / f"{number}.jpg")
    rows = "".join(f"{number}.jpg,caption\n" for number in range(5)) + "6.jpg\n"
    (tmp_path / "t.csv").write_text("image,caption\n" + rows)
    words = [
        "data",
        "convert",
        "image-text",
        "--images",
        str(tmp_path / "photos"),
        "--captions",
        str(tmp_path / "t.csv"),
    ]
    assert main([*words, "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    looked = ", ".join(str(tmp_path / "photos" / f"{number}.jpg") for number in (1, 2, 3))
    out = capsys.readouterr().out
    assert (
        f"dropped: 3 missing_image, 1 malformed_row\n  malformed_row: t.csv, line 7\n  missing_image: {looked}\n" in out
    )
    for number in (0, 4):
        (tmp_path / "photos" / f"{number}.jpg").unlink()
    assert main([*words, "--workers", "1", "--out", str(tmp_path / "none")]) != 0
    assert f"missing_image, such as {tmp_path}/photos/0.jpg" in capsys.readouterr().err


def test_a_file_of_nothing_is_named(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "none.jsonl").write_text("\n")
    files = ["--images", str(tmp_path / "images"), "--graphs", str(tmp_path / "none.jsonl")]
    assert main(["data", "convert", "own", *files, "--out", str(tmp_path / "out")]) == 2
    assert f"so nothing is written: there is none in {tmp_path / 'none.jsonl'}\n" in capsys.readouterr().err


def test_two_folders_of_images_are_told_what_to_do(tmp_path, capsys):
    folders = [tmp_path / name for name in ("train", "val")]
    files = ("--captions", tmp_path / "captions.json", "--out", tmp_path / "out")
    for given in (("--images", *folders, *files), (*files, f"--images={folders[0]}", folders[1])):
        assert convert("coco", *given) == 2
        error = capsys.readouterr().err
        assert f"unrecognized arguments: {folders[1]}: --images takes 1 value, so for several run the" in error
        assert error.count("\n") == 1
