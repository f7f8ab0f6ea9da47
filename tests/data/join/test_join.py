"""Published annotations on shards that exist: what meets what, by tasks, after kills, and what is told."""

import csv
import json
import os
import tarfile

import pytest

from relpretrain.cli import main
from relpretrain.data.join import formats
from relpretrain.data.shards import writer as writing
from tests.data.build.converting import contents, in_a_child, kill_at
from tests.data.test_commands import jpeg, samples, write_tar

URL = "https://a.example/{}.jpg"
COLUMNS = (
    *("Image Path", "raw_caption", "shortIB_captions", "longIB_captions", "shortSV_captions", "longSV_captions"),
    *("shortLLA_captions", "longLLA_captions"),
)


def join(*words):
    return main(["data", "join", *map(str, words)])


@pytest.fixture(autouse=True)
def _no_array(monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Five shards of three samples, as img2dataset writes them."""
    folder = tmp_path_factory.mktemp("download")
    for shard in range(5):
        members = {}
        for number in range(3 * shard, 3 * shard + 3):
            key = f"{number:09d}"
            about = {"url": URL.format(number), "key": key, "original_width": 40, "original_height": 20}
            members |= {f"{key}.jpg": jpeg(color=(number, 0, 0)), f"{key}.txt": b"alt text", f"{key}.json": about}
        write_tar(folder / f"{shard:05d}.tar", members)
    return folder


@pytest.fixture(scope="module")
def dreamlip(tmp_path_factory):
    """Rows of samples 2 to 14, one twice, and of two that nobody has, in another order."""
    path = tmp_path_factory.mktemp("captions") / "cc3m.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in [99, *range(14, 1, -1), 98, 7]:
            texts = (f"raw {number}", "a cat</s>", f'A "cat", black.\nIt sits. {number}', "", "b", "c", "a cat")
            table.writerow([URL.format(number), *texts])
    return path


def test_dreamlip_by_address(shards, dreamlip, tmp_path, capsys):
    out = tmp_path / "out"
    assert join(shards, "--annotations", dreamlip, "--format", "dreamlip", "--out", out) == 0
    records, images = samples(out)
    assert len(list(out.glob("*.tar"))) == 5
    assert list(records) == [f"{n:09d}" for n in range(15)]
    assert images["000000003"] == ("jpg", jpeg(color=(3, 0, 0)))
    assert records["000000003"]["captions"] == ["alt text", "raw 3", "a cat", 'A "cat", black. It sits. 3', "b", "c"]
    assert records["000000003"]["url"] == URL.format(3)  # so that more can be joined
    assert records["000000000"]["captions"] == ["alt text"]
    told = capsys.readouterr().out
    assert "13 samples joined; 13 of 15 annotated names met a sample, in 16 annotations" in told
    assert "licence of dreamlip: CC-BY-4.0" in told
    index = json.loads((out / "index.json").read_text())
    assert index["dropped"] == {"annotation_without_sample": 2}
    assert index["noted"] == {"nothing_to_join": 2, "repeated_annotation": 1}
    assert index["joined"] == [
        {"format": "dreamlip", "files": ["cc3m.csv"], "licence": formats.FORMATS["dreamlip"].licence}
    ]


def test_a_mistake_is_set_right_by_the_right_command(shards, dreamlip, tmp_path, capsys):
    words = (shards, "--annotations", dreamlip, "--format", "dreamlip", "--out", tmp_path / "out")
    assert join(*words, "--on", "key") == 2
    assert "--on says what both share" in capsys.readouterr().err
    assert join(*words, "--on", "url") == 0


def test_overwrite_begins_unfinished_work_of_other_arguments_anew(shards, dreamlip, tmp_path, capsys):
    words = (shards, "--annotations", dreamlip, "--format", "dreamlip", "--workers", 1, "--out", tmp_path / "out")

    def run():
        kill_at(writing.ShardFile, "finish", 3, after=True)
        join(*words)

    assert in_a_child(run) < 0
    assert join(*words, "--sentences") == 2
    assert "other arguments or files (options): repeat those to go on, or add --overwrite" in capsys.readouterr().err
    assert join(*words, "--sentences", "--overwrite") == 0
    again = (*words[:-1], tmp_path / "whole")
    assert join(*again, "--sentences") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_chosen_columns_cut_into_sentences(shards, dreamlip, tmp_path):
    words = (shards, "--annotations", dreamlip, "--format", "dreamlip", "--unmatched", "drop", "--sentences")
    more = ("--captions", "longIB_captions", "shortIB_captions", "--join-captions", "replace")
    assert join(*words, *more, "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert records["000000003"]["captions"] == ['A "cat", black', "It sits", "3", "a cat"]
    assert "000000000" not in records


def test_any_number_of_tasks_and_workers_gives_the_same_bytes(shards, dreamlip, tmp_path):
    results = []
    for total in (1, 3, 7):
        out = tmp_path / str(total) / "out"
        words = (shards, "--annotations", dreamlip, "--format", "dreamlip", "--out", out, "--workers", 1 + total % 2)
        for number in reversed(range(total)):
            assert join(*words, "--task", f"{number}/{total}") == 0
        assert main(["data", "merge", str(out)]) == 0
        results.append(contents(out))
    out = tmp_path / "whole/out"
    assert join(shards, "--annotations", dreamlip, "--format", "dreamlip", "--out", out) == 0
    assert results[0] == results[1] == results[2] == contents(out)


def test_a_killed_join_goes_on(shards, dreamlip, tmp_path):
    words = (shards, "--annotations", dreamlip, "--format", "dreamlip", "--workers", 1, "--out")
    assert join(*words, tmp_path / "whole/out") == 0

    def run():
        kill_at(writing.ShardFile, "finish", 3, after=True)
        join(*words, tmp_path / "killed/out")

    assert in_a_child(run) < 0
    work = tmp_path / "killed/out/.tasks"
    finished = {path.name: os.stat(path).st_mtime_ns for path in work.glob("part-*.tar")}
    assert len(finished) == 3
    assert join(*words, tmp_path / "killed/out") == 0
    assert contents(tmp_path / "whole/out") == contents(tmp_path / "killed/out")


def test_joins_add_up_and_keep_their_licences(shards, dreamlip, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert join(shards, "--annotations", dreamlip, "--format", "dreamlip", "--out", first) == 0
    lines = [
        {"url": URL.format(1), "captions": ["light", "heavy"], "weights": [1, 3]},
        {"url": URL.format(2), "caption": "one", "weight": 0.5},
        {"url": URL.format(2), "caption": "two", "weight": 2},
        {"url": URL.format(3), "captions": ["bad"], "weights": [-1]},
    ]
    path = tmp_path / "weights.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("--format", "alip", "--licence", "our own", "--join-captions", "replace")
    assert join(first, "--annotations", path, *words, "--out", second) == 0
    records, _ = samples(second)
    assert records["000000001"]["captions"] == ["light", "heavy"]
    assert records["000000001"]["caption_weights"] == [1, 3]
    assert records["000000002"]["captions"] == ["one", "two"]
    assert records["000000002"]["caption_weights"] == [0.5, 2]
    assert "caption_weights" not in records["000000003"]
    index = json.loads((second / "index.json").read_text())
    assert [entry["format"] for entry in index["joined"]] == ["dreamlip", "alip"]
    assert index["joined"][1]["licence"] == "our own"
    assert index["dropped"]["malformed_caption_weights"] == 1


def test_a_graph_by_key_in_pixels_of_the_original(shards, tmp_path):
    graph = {
        "image": "photos/000000004.jpg",
        "entities": [{"label": "cat", "box": [0, 0, 20, 10]}, {"label": "dog", "box": [20, 10, 40, 20]}],
        "relations": [{"subject": 0, "relation": "near", "object": 1}],
    }
    outside = {"image": "000000005.jpg", "entities": [{"label": "cat", "box": [0, 0, 200, 10]}]}
    path = tmp_path / "graphs.jsonl"
    path.write_text(json.dumps(graph) + "\n" + json.dumps(outside) + "\n")
    words = ("--annotations", path, "--format", "jsonl", "--on", "key")
    assert join(shards, *words, "--out", tmp_path / "out") == 0
    records, _ = samples(tmp_path / "out")
    assert [entity["box"] for entity in records["000000004"]["entities"]] == [[0, 0, 10, 5], [10, 5, 20, 10]]
    assert "entities" not in records["000000005"]  # but the sample is there
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["dropped"]["joined_box_outside_image"] == 1
    again = (tmp_path / "out", *words, "--join-graphs", "add", "--out", tmp_path / "twice")
    assert join(*again) == 0
    twice, _ = samples(tmp_path / "twice")
    assert [r["subject"] for r in twice["000000004"]["relations"]] == [0, 2]


def test_a_graph_follows_the_captions_that_it_was_read_from(tmp_path):
    read = {"caption": 0, "span": [0, 3], "source": "lexicon"}
    own = {"captions": ["cat"], "entities": [{"label": "cat", **read}]}
    write_tar(tmp_path / "in/a.tar", {"0.jpg": jpeg(), "0.json": own})
    new = {"key": "0", "captions": ["dog sits"], "entities": [{"label": "dog", **read}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(new))
    words = ("--annotations", tmp_path / "a.jsonl", "--format", "jsonl", "--on", "key", "--join-graphs", "add")
    assert join(tmp_path / "in", *words, "--out", tmp_path / "out") == 0
    assert [e["caption"] for e in samples(tmp_path / "out")[0]["0"]["entities"]] == [0, 1]
    assert join(tmp_path / "in", *words, "--join-captions", "replace", "--out", tmp_path / "other") == 0
    cat, dog = samples(tmp_path / "other")[0]["0"]["entities"]
    assert not {"caption", "span"} & cat.keys()
    assert (dog["caption"], dog["span"]) == (0, [0, 3])


def test_one_name_of_two_images_is_refused(tmp_path, capsys):
    for name, color in (("a", 1), ("b", 2)):
        write_tar(tmp_path / f"in/{name}.tar", {"0.jpg": jpeg(color=(color, 0, 0)), "0.txt": b"x"})
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"key": "0", "caption": "new"}))
    words = ("--annotations", path, "--format", "jsonl", "--on", "key", "--out", tmp_path / "out")
    assert join(tmp_path / "in", *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the key '0' is that of two different images" in error
    assert "--on url" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--annotations", "absent.csv", "--format", "dreamlip"), "--annotations absent.csv does not exist"),
        (("--annotations", "README.md", "--format", "dreamlip"), "README.md is of an unknown kind"),
        (("--annotations", "{other}", "--format", "dreamlip"), "has an annotation for none of the samples"),
        (("--annotations", "{other}", "--format", "jsonl"), "does not end in .jsonl: name the --format"),
    ],
)
def test_mistakes_are_a_line(shards, tmp_path, capsys, words, said):
    other = tmp_path / "other.csv"
    other.write_text("Image Path,raw_caption\nhttps://b.example/1.jpg,a\n")
    assert join(shards, *(word.format(other=other) for word in words), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert not list(tmp_path.rglob("*.tar"))


def test_tar_and_parquet_say_what_json_lines_do(shards, tmp_path):
    lines = [{"key": f"{n:09d}", "captions": [f"text {n}"], "caption_weights": [2]} for n in (3, 4)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    write_tar(tmp_path / "a.tar", {f"{line['key']}.json": line for line in lines})
    files = {"jsonl": "a.jsonl", "tar": "a.tar"}
    try:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(lines), tmp_path / "a.parquet")
        files["parquet"] = "a.parquet"
    except ImportError:
        pass
    found = {}
    for kind, name in files.items():
        words = ("--annotations", tmp_path / name, "--format", kind, "--on", "key", "--out", tmp_path / kind)
        assert join(shards, *words) == 0
        found[kind] = samples(tmp_path / kind)
    assert found["jsonl"][0]["000000003"]["captions"] == ["alt text", "text 3"]
    assert found["jsonl"][0]["000000003"]["caption_weights"] == [1, 2]
    assert all(result == found["jsonl"] for result in found.values())
