"""One record that nobody expected is a bad sample like any other: for the doctor, packing, the page and training."""

import io
import json
import tarfile
from itertools import islice

import pytest

from relpretrain.cli import main
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.graph_loader import graph_loader
from tests.data.small import picture, record, stream, tokenizer, write_shards

HALF, LONG, DIGITS = "\\ud83d", "1" + "0" * 400, "1" + "0" * 5000
ENTITY = record()["entities"][0]


def _with(value, **changes):
    """A record as JSON, in which a text of "HERE" is replaced as it is, and one of "NUMBER" with its quotes."""
    return json.dumps(record() | changes).replace('"NUMBER"', value).replace("HERE", value).encode()


def _entities(**changes):
    return [ENTITY | changes, *record()["entities"][1:]]


def _on(subject, relation="on"):
    return [{"subject": subject, "relation": relation, "object": 1}]


MENDED = {
    "caption": _with(HALF, captions=["HERE a cat"]),
    "label": _with(HALF, entities=_entities(label="cat HERE")),
    "attribute": _with(HALF, entities=_entities(attributes=["HERE"])),
    "relation": _with(HALF, relations=_on(0, "on HERE")),
    "image_id": _with(HALF, image_id="HERE"),
    "source": _with(HALF, source="HERE"),
    "name": _with(HALF, HERE=1),
    "long_id": _with(DIGITS, image_id="NUMBER"),
    "odd_id": _with("", image_id=[1], source={"a": 1}),
}
BAD = {
    "box400": ("malformed_box", _with(LONG, entities=_entities(box=[1, 2, "NUMBER", 20]))),
    "box5000": ("malformed_box", _with(DIGITS, entities=_entities(box=[1, 2, "NUMBER", 20]))),
    "width400": ("size_differs", _with(LONG, width="NUMBER")),
    "width5000": ("size_differs", _with(DIGITS, width="NUMBER")),
    "subject": ("relation_without_entity", _with(DIGITS, relations=_on("NUMBER"))),
    "entities": ("malformed_entities", _with("", entities="abc")),
}
LEFT_OUT = {"deep": b'{"a":' * 100_000, "deeper": b"[" * 100_000 + b"]" * 100_000, "number": b"5", "empty": b""}
LEFT_OUT |= {"captions": _with("", captions=5)}


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    records = [*MENDED.items(), *((key, found) for key, (_, found) in BAD.items()), *LEFT_OUT.items()]
    records += [("caf\xe9", json.dumps(record()).encode()), ("good", json.dumps(record()).encode())]
    with tarfile.open(folder / "h.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        for key, content in records:
            for name, data in ((f"{key}.png", picture()), (f"{key}.json", content)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder / "h.tar"


def test_the_doctor_names_shard_and_key(shard, tmp_path):
    out = tmp_path / "d.json"
    assert main(["data", "doctor", str(shard), "--workers", "1", "--out", str(out)]) == 1
    assert main(["data", "doctor", str(shard), "--workers", "1", "--max-bad", "0.9"]) == 0
    (found,) = json.loads(out.read_text())["datasets"].values()
    bad = {b["key"]: b["reason"] for b in found["bad"]}
    assert bad == {key: reason for key, (reason, _) in BAD.items()} | dict.fromkeys(LEFT_OUT, "malformed_json")
    assert {b["shard"].rpartition("/")[2] for b in found["bad"]} == {"h"}


def test_packing_leaves_out_the_bad_and_mends_the_others(shard, tmp_path, capsys):
    words = ["--out", str(tmp_path / "out"), "--workers", "1", "--shorter-side", "16"]
    assert main(["data", "pack", str(shard), *words]) == 0
    told = capsys.readouterr().out
    for key in (*BAD, *LEFT_OUT):
        assert f"h.tar/{key}" in told or told.count(", such as")
    assert main(["data", "doctor", str(tmp_path / "out"), "--workers", "1", "--max-bad", "0"]) == 0
    assert json.loads((tmp_path / "out" / "index.json").read_text())["samples"] == len(MENDED) + 2


def test_the_page_shows_all(shard, tmp_path):
    assert main(["data", "show", str(shard), "--out", str(tmp_path / "page")]) == 0


@pytest.mark.parametrize("kind", ["captions", "regions", "graphs"])
def test_training_counts_them(shard, kind, tmp_path):
    words = tokenizer(tmp_path)
    data = RelationDataModule({"s": stream(kind, str(shard), 4)}, words, 16, max_bad_fraction=1.0)
    data.setup()
    for batch in islice(data.train_dataloader(), 6):
        data.on_after_batch_transfer(batch, 0)
    counted = {reason for reason in data.report()["small"] if not reason.startswith("part")}
    expected = set() if kind == "captions" else {reason for reason, _ in BAD.values()}
    assert counted == expected | {"malformed_json"}
    told = data.bad_samples.lines()
    assert all("h" in line.partition("first: ")[2] for line in told)
    if kind == "graphs":
        loader = graph_loader(str(shard), words, 4, 16, max_bad_fraction=1.0)
        assert len(list(islice(loader, 6))) == 6


def test_one_endless_label_does_not_end_training(tmp_path):
    folder = write_shards(tmp_path / "shards", 30, 30)
    with tarfile.open(f"{folder}/s-000000.tar", "a") as tar:
        entities = [ENTITY | {"label": "left of " * 100_000}, ENTITY | {"box": [2, 2, 9, 9]}]
        content = json.dumps(record() | {"entities": entities, "relations": _on(0)}).encode()
        for name, data in (("long.png", picture()), ("long.json", content)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (tmp_path / "shards" / "index.json").unlink()
    data = RelationDataModule({"s": stream("graphs", folder, 31)}, tokenizer(tmp_path), 16, max_bad_fraction=0.1)
    data.setup()
    for batch in islice(data.train_dataloader(), 1):
        data.on_after_batch_transfer(batch, 0)
    assert data.report()["small"]["no_triplet_fits"] == 1
