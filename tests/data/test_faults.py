"""What can be wrong with shards and samples, and what becomes of it (docs/data.md, "What can go wrong")."""

import io
import json
import struct
import time
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.pipeline.images import decode
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample, ConfigError, TooManyBadSamples
from tests.data.shards.test_row_index import write_tar
from tests.data.small import picture, record, stream, tokenizer, write_shards


def _encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _png_header(width, height):
    """A PNG that says it is large, and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 9_500)])
def test_a_pixel_bomb_is_refused_before_it_is_unpacked(size):
    start = time.process_time()
    with pytest.raises(BadSample) as caught:
        decode(_png_header(*size), 16)
    assert caught.value.reason == "decompression_bomb"
    assert time.process_time() - start < 2


RED, BLUE = (255, 0, 0), (0, 0, 255)
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (40, 30), BLUE)]}
IMAGES = {
    "cmyk": (_encoded(Image.new("CMYK", (40, 30), (0, 255, 255, 0)), "JPEG"), RED),
    "rgba": (_encoded(Image.new("RGBA", (40, 30), (255, 0, 0, 128)), "PNG"), (255, 127, 127)),  # over white
    "16 bit": (_encoded(Image.fromarray(np.full((30, 40), 40_000, np.uint16)), "PNG"), (155, 155, 155)),
    "palette": (_encoded(Image.new("RGB", (40, 30), RED).quantize(4), "PNG"), RED),
    "animated webp": (_encoded(Image.new("RGB", (40, 30), RED), "WEBP", lossless=True, **FRAMES), RED),  # first
    "animated png": (_encoded(Image.new("RGB", (40, 30), RED), "PNG", **FRAMES), RED),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_every_kind_become_rgb(name):
    data, expected = IMAGES[name]
    image = decode(data, 16).image
    assert image.shape == (3, 30, 40)
    assert np.abs(image.numpy().mean((1, 2)) - expected).max() <= 2


def test_an_exif_rotation_is_not_applied():
    """Boxes count in the pixels that are stored, and width and height of the record are theirs."""
    image = Image.new("RGB", (40, 30), RED)
    image.paste(BLUE, (0, 0, 40, 15))  # the stored upper half
    exif = Image.Exif()
    exif[0x112] = 6  # shown turned by 90 degrees
    decoded, size = decode(_encoded(image, "JPEG", exif=exif, quality=95), 16)
    assert size == (40, 30)
    assert decoded[:, :12].float().mean((1, 2)).argmax() == 2
    assert decoded[:, 18:].float().mean((1, 2)).argmax() == 0


@pytest.fixture
def fit_for(tmp_path):
    """A datamodule over members written to one tar."""
    words = tokenizer(tmp_path)

    def make(kind, *samples, batch=None, min_scale=0.5):
        members = [member for sample in samples for member in sample]
        shard = write_tar(tmp_path / "x.tar", members)
        data = RelationDataModule(
            {"s": stream(kind, shard, batch or len(samples), min_scale=min_scale)}, words, 16, max_bad_fraction=1.0
        )
        data.setup()
        return data

    return make


def _keys(data, steps):
    data._position.upcoming = 0
    return [batch.keys for batch in islice(iter(data.train_dataloader()), steps)]


def _sample(key, image=None, **changes):
    content = json.dumps({**record(), **changes}).encode()
    return [(f"{key}.png", picture() if image is None else image), (f"{key}.json", content)]


def _after(data, steps=1):
    """Keys of some batches, and what was lost."""
    keys = []
    for batch in islice(iter(data.train_dataloader()), steps):
        data.on_after_batch_transfer(batch, 0)
        keys += batch.keys
    return sorted(key.rpartition("/")[2] for key in keys), data.report()


def test_nan_boxes(fit_for):
    entities = [{"label": "cat", "box": [float("nan"), 0, 5, 5]}, *record()["entities"][1:]]
    data = fit_for("graphs", _sample("good"), _sample("nan", entities=entities), min_scale=1.0)
    assert _after(data) == (["good"] * 2, {"small": {"malformed_box": 1}})  # the other's place is filled


def test_empty_captions(fit_for, capsys):
    data = fit_for(
        "captions", _sample("good"), _sample("none", captions=[]), _sample("blank", captions=["", "  "]), batch=1
    )
    assert "small: never drawn: 2 without caption" in capsys.readouterr().out
    assert _after(data, 5) == (["good"] * 5, {})


def test_empty_captions_beside_good_ones(fit_for):
    data = fit_for("captions", _sample("mixed", captions=["", "a red cat"]))
    batches = list(islice(iter(data.train_dataloader()), 10))
    assert {len(batch.pairs) for batch in batches} == {1}
    assert {int((batch.pairs.text.input_ids != 0).sum()) for batch in batches} == {5}  # [CLS] a red cat [SEP]


def test_a_graph_of_ten_thousand_triplets(fit_for):
    relations = [{"subject": i % 3, "relation": f"on {i}", "object": (i + 1) % 3} for i in range(10_000)]
    data = fit_for("graphs", _sample("huge", relations=relations), min_scale=1.0)
    start = time.process_time()
    batch = next(iter(data.train_dataloader()))
    assert time.process_time() - start < 5
    assert len(batch.relations) == 2
    assert batch.pairs.text.input_ids.shape[1] <= 36


def test_a_member_that_climbs_out_of_the_tar_writes_nothing(fit_for, tmp_path):
    before = sorted(tmp_path.parent.rglob("*"))
    data = fit_for("captions", _sample("good"), _sample("../../outside"))
    assert _after(data)[0] == ["good", "outside"]  # read by position: a name is a name, and no path
    assert sorted(set(tmp_path.parent.rglob("*")) - set(before)) == [tmp_path / ".x.tar.index", tmp_path / "x.tar"]


def test_missing_members_and_repeated_keys(fit_for):
    good = _sample("good")
    data = fit_for("captions", good, [good[0]], _sample("no_image")[1:], _sample("no_text")[:1], good, batch=1)
    assert _after(data, 3) == (
        ["good"] * 3,
        {"small": {"missing_annotation": 1, "missing_image": 1, "repeated_key": 2}},
    )


def test_a_truncated_tar(fit_for, tmp_path):
    samples = [_sample(f"k{i}") for i in range(5)]
    fit_for("captions", *samples)
    path = tmp_path / "x.tar"
    cut = path.read_bytes()[: int(0.7 * 5 * 3 * 1024 * 2)]
    path.write_bytes(cut)
    data = RelationDataModule(
        {"s": stream("captions", str(path), 1)}, str(tmp_path / "tokenizer"), 16, max_bad_fraction=0.5
    )
    data.setup()
    keys, lost = _after(data, 20)
    assert set(keys) < {f"k{i}" for i in range(5)}
    assert lost["small"]["truncated_shard"] == 1
    strict = RelationDataModule({"s": stream("captions", str(path), 1)}, str(tmp_path / "tokenizer"), 16)
    with pytest.raises(ConfigError, match=r"are bad .*truncated_shard 1\. Worst shard: 'x'"):
        strict.setup()


def test_a_tar_with_a_corrupt_header(fit_for, tmp_path):
    fit_for("captions", *(_sample(f"k{i}") for i in range(4)))
    path = tmp_path / "x.tar"
    content = bytearray(path.read_bytes())
    third = content.index(b"k2.png")
    content[third + 100 : third + 160] = b"\xff" * 60  # mode, owner, size
    path.write_bytes(content)
    index = ShardIndex.of(str(path))
    assert index.keys == ["k0", "k1"]
    assert [problem.reason for problem in index.problems] == ["truncated_shard"]  # and all that follows is lost: said


def test_corrupt_bytes_of_one_image_leave_the_others(fit_for):
    broken = bytearray(picture(format="PNG"))
    broken[60:90] = bytes(30)
    assert _after(fit_for("captions", _sample("good"), _sample("bad", bytes(broken)))) == (
        ["good"] * 2,
        {"small": {"truncated_image": 1}},
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_disappears_stops_the_run_and_is_named(tmp_path, workers):
    shards = write_shards(tmp_path / "shards", 24, 2)
    data = RelationDataModule({"s": stream("captions", shards, 2)}, tokenizer(tmp_path), 16, num_workers=workers)
    data.setup()
    batches = iter(data.train_dataloader())
    assert len(next(batches)) == 2
    for path in Path(shards).glob("*.tar"):
        path.unlink()
    with pytest.raises(OSError, match=r"s-0000\d\d\.tar disappeared during the run\. Put it back and resume"):
        list(islice(batches, 40))


def test_excluded_images_are_left_out_when_they_are_met(tmp_path, capsys):
    shards, words = write_shards(tmp_path / "shards", 24, 5), tokenizer(tmp_path)
    listed = {"version": 1, "image_ids": ["3", "11", "12", "99"], "phashes": []}
    (tmp_path / "exclude.json").write_text(json.dumps(listed))

    def data(**options):
        found = RelationDataModule({"s": stream("captions", shards, 4)}, words, 16, max_bad_fraction=0.0, **options)
        found.setup()
        return found

    free, bound = data(), data(exclude=str(tmp_path / "exclude.json"))
    assert "exclude.json are left out when they are met" in capsys.readouterr().out
    keys, lost = _after(bound, 6)
    assert len(keys) == 24
    assert sorted(set(keys)) == [f"k{i:03d}" for i in range(24) if i not in (3, 11, 12)]
    assert lost == {"small": {"excluded_id": 3}}  # and never too many
    kept = [[key for key in batch if key[-3:] not in ("003", "011", "012")] for batch in _keys(free, 6)]
    assert all(set(whole) <= set(batch) for whole, batch in zip(kept, _keys(bound, 6), strict=True))
    assert bound.schedule.fingerprint != free.schedule.fingerprint
    with pytest.raises(ConfigError, match=r"exclude: cannot read the exclusion list nowhere\.json"):
        data(exclude="nowhere.json")


def test_data_of_which_all_is_excluded_is_told(tmp_path):
    shards, words = write_shards(tmp_path / "shards", 6, 2), tokenizer(tmp_path)
    listed = {"version": 1, "image_ids": [str(i) for i in range(6)], "phashes": []}
    (tmp_path / "exclude.json").write_text(json.dumps(listed))
    data = RelationDataModule({"s": stream("captions", shards, 2)}, words, 16, exclude=str(tmp_path / "exclude.json"))
    data.setup()
    with pytest.raises(
        TooManyBadSamples, match=r"1,000 samples .* \(excluded_id\), \.\.\.; the list of `exclude` leaves"
    ):
        next(iter(data.train_dataloader()))


def test_excluded_pixels_are_left_out_and_counted(tmp_path):
    from relpretrain.data.sampling.exclusion import Exclusion, phash

    shards, words = write_shards(tmp_path / "shards", 24, 5), tokenizer(tmp_path)
    hashes = [phash(Image.open(io.BytesIO(picture(i)))) for i in (4, 20)]
    Exclusion(phashes=tuple(hashes)).save(tmp_path / "exclude.json")
    data = RelationDataModule(
        {"s": stream("captions", shards, 8)}, words, 16, exclude=str(tmp_path / "exclude.json"), max_bad_fraction=0.0
    )
    data.setup()
    keys, lost = _after(data, 3)
    assert len(keys) == 24
    assert sorted(set(keys)) == [f"k{i:03d}" for i in range(24) if i not in (4, 20)]
    assert lost == {"small": {"excluded_phash": 2}}  # on purpose, so not too many bad samples
