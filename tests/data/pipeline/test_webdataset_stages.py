"""Our stages in webdataset's pipelines, our shards read by webdataset, and tars of others read by us."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds

from relpretrain.data import RelationDataModule, Stream, augment, collate, decode, verbalise
from relpretrain.data.pipeline.images import CLIP_NORMALISATION
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from relpretrain.types import CaptionBatch, GraphBatch, RegionBatch
from tests.data.small import picture, record, tokenizer, write_shards

SIZE = 16


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_shards(folder / "shards", count=11, per_shard=6)
    return sorted(map(str, (folder / "shards").glob("*.tar"))), tokenizer(folder)


def pipeline(shards, words, kind="graphs", batch=4, **options):
    stream = Stream(kind, {}, batch)
    return wds.DataPipeline(
        wds.SimpleShardList(shards),
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        decode(stream, SIZE, **options),
        augment(stream, SIZE),
        verbalise(stream, words),
        collate(stream, words, whole=False),
    )


def write_tar(path, count, **parts):
    """A tar by webdataset's own writer."""
    with wds.TarWriter(str(path)) as writer:
        for i in range(count):
            writer.write({"__key__": f"{i:09d}", **{name: make(i) for name, make in parts.items()}})
    return str(path)


@pytest.mark.parametrize(
    ("kind", "batch_type"), [("captions", CaptionBatch), ("regions", RegionBatch), ("graphs", GraphBatch)]
)
def test_stages_make_typed_batches(world, kind, batch_type):
    batches = list(pipeline(*world, kind))
    assert [type(batch) for batch in batches] == [batch_type] * 3
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert [batch.step for batch in batches] == [0, 1, 2]
    assert [key for batch in batches for key in batch.keys][0::6] == ["shards/s-000000/k000", "shards/s-000001/k006"]
    assert batches[0].images.dtype == torch.uint8
    assert batches[0].images.shape == (4, 3, SIZE, SIZE)
    assert batches[0].normalisation == CLIP_NORMALISATION
    assert (batches[0].pairs.text.labels >= 0).any()


def test_a_list_of_images_goes_by_the_ids_that_training_and_audit_use(tmp_path):
    """The record's `image_id`, else img2dataset's `key`, else the sample's own."""
    abouts = [{"image_id": "a"}, {"key": "b"}, {}, {"image_id": "c"}]
    parts = {"png": picture, "json": lambda i: json.dumps(abouts[i]).encode(), "txt": lambda i: b"a cat"}
    path = write_tar(tmp_path / "x.tar", 4, **parts)
    index = ShardIndex.of(path)
    assert index.image_ids == ["a", "b", "000000002", "c"]
    words = tokenizer(tmp_path)
    for listed, left in ((index.image_ids[:3], [3]), (["c"], [0, 1, 2])):
        batches = list(pipeline([path], words, "captions", exclusion=Exclusion(frozenset(listed))))
        keys = [key.rpartition("/")[2] for batch in batches for key in batch.keys]
        assert keys == [f"{i:09d}" for i in left]


def test_seeds_are_torchs(world):
    made = pipeline(*world)
    torch.manual_seed(0)
    first, second = next(iter(made)), next(iter(made))
    torch.manual_seed(0)
    again = next(iter(pickle.loads(pickle.dumps(made))))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.pairs.text.masked_input_ids, again.pairs.text.masked_input_ids)
    assert not torch.equal(first.images, second.images)


def test_workers_of_a_loader_share_the_shards(world):
    loader = wds.WebLoader(pipeline(*world, batch=3), batch_size=None, num_workers=2)
    batches = list(loader)
    assert sorted(batch.step for batch in batches) == [0, 1, 2, 3]
    assert len({key for batch in batches for key in batch.keys}) == 11


def test_bad_samples_are_told_to_the_handler(world, tmp_path):
    parts = {
        "png": lambda i: b"" if i == 1 else picture(i),
        "json": lambda i: json.dumps(record(i, graph=i != 2)).encode(),
    }
    tar, told = write_tar(tmp_path / "x.tar", 5, **parts), []
    stream = Stream("graphs", {}, 5)
    samples = wds.DataPipeline(
        wds.SimpleShardList([tar]),
        wds.tarfile_to_samples(),
        decode(stream, SIZE, handler=lambda error: told.append(error) or True),
        augment(stream, SIZE),
        verbalise(stream, world[1], handler=lambda error: told.append(error) or True),
    )
    assert len(list(samples)) == 3
    assert [error.reason for error in told] == ["not_an_image", "no_relation"]
    assert "x.tar 000000001" in told[0].detail
    assert "/x/000000002" in told[1].detail
    with pytest.raises(BadSample):
        list(pipeline([tar], world[1], handler=wds.reraise_exception))
    with pytest.raises(TypeError, match="decode takes bytes, got dict"):
        list(decode(stream, SIZE)([{"__key__": "a", "jpg": b"", "json": {}}]))


def test_our_shards_are_read_by_webdataset(world):
    samples = list(wds.WebDataset(world[0], shardshuffle=False).decode("rgb8").to_tuple("png", "json"))
    assert len(samples) == 11
    image, content = samples[7]
    assert content == record(7)
    assert image.shape == (30, 40, 3)


IMG2DATASET = {
    "jpg": lambda i: picture(i, format="JPEG"),
    "txt": lambda i: f"a red cat {i}".encode(),
    "json": lambda i: json.dumps(
        {"url": "u", "caption": f"a red cat {i}", "key": f"{i:09d}", "status": "success", "error_message": None,
         "width": 40, "height": 30, "original_width": 80, "original_height": 60, "exif": "{}", "sha256": "0"}
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("parts", [("jpg", "txt", "json"), ("jpg", "txt")], ids=["img2dataset", "openclip"])
def test_tars_of_others_are_read(world, tmp_path, parts):
    tar = write_tar(tmp_path / "00000.tar", 8, **{name: IMG2DATASET[name] for name in parts})
    (one, two) = pipeline([tar], world[1], "captions")
    data = RelationDataModule({"c": Stream("captions", {"others": tar}, 4, objectives=["itc"])}, world[1], SIZE)
    data.setup()
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(2), strict=False)]
    ids = {row for batch in (one, two) for row in batch.pairs.text_keys.tolist()}
    assert ids == {row for batch in batches for row in batch.pairs.text_keys.tolist()}
    assert len(ids) == 8


def test_the_page_says_what_runs(world, tmp_path):
    """The example of the documentation, with a small model."""
    pytest.importorskip("open_clip")
    from tests.zeroshot import foreign

    foreign.write_openclip(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "webdataset.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    small = f'SHARDS, NAME, BATCH, WORKERS, STEPS = {world[0]!r}, "letters", 4, 0, 2'
    code, replaced = re.subn(r"^SHARDS, NAME, .*$", lambda _: small, code, flags=re.MULTILINE)
    assert replaced == 1
    names = {}
    exec(code, names)
    assert names["step"] == 1
    assert np.isfinite(float(sum(names["losses"].values())))
