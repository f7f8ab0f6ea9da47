"""Image files: which formats are read, and by whom."""

import io
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

import relpretrain
from relpretrain.data.pipeline.images import decode
from relpretrain.errors import BadSample
from relpretrain.pixels import BROKEN, FORMATS, open_image
from relpretrain.sources.common.annotation import probe_image
from relpretrain.sources.common.dropped import Dropped

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
DDS = b"DDS " + b"\x7c\x00\x00\x00" + b"\xff" * 120


@pytest.mark.parametrize("content", [EPS, DDS], ids=["eps", "dds"])
def test_a_file_of_another_format_is_no_image_whatever_its_name(content, monkeypatch):
    """For EPS Pillow would start Ghostscript, which runs what the file says."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(BadSample) as caught:
        decode(content, 16)
    assert caught.value.reason == "not_an_image"
    dropped = Dropped()
    assert probe_image(io.BytesIO(content), dropped) is None
    assert dropped == {"unreadable_image": 1}


@pytest.mark.parametrize("name", FORMATS)
def test_named_formats_are_read(name):
    if name not in Image.SAVE and (Image.init(), name not in Image.SAVE)[1]:
        pytest.skip("this Pillow was built without it")
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(buffer, name)
    assert decode(buffer.getvalue(), 16).image.shape == (3, 8, 16)


BOMB = zlib.compress(bytes(64 << 20), 9)
"""64 MiB in 64 KiB: more than Pillow unpacks of a text."""

BOMBS = {
    "a text": b"zTXt" + b"title\0\0" + BOMB,
    "a text of all scripts": b"iTXt" + b"title\0\1\0\0\0" + BOMB,
    "a colour profile": b"iCCP" + b"profile\0\0" + BOMB,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
def test_texts_and_colour_profiles_that_unpack_to_megabytes_are_not_unpacked(name, behind, monkeypatch):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(buffer, "PNG")
    head, pixels, end = buffer.getvalue()[:33], buffer.getvalue()[33:-12], buffer.getvalue()[-12:]
    bomb = struct.pack(">I", len(BOMBS[name]) - 4) + BOMBS[name] + struct.pack(">I", zlib.crc32(BOMBS[name]))
    unpacked, make = [], zlib.decompressobj

    class Watched:
        """Unpacks, and notes how much."""

        def __init__(self, *args):
            self.inner = make(*args)

        def decompress(self, *args):
            unpacked.append(len(found := self.inner.decompress(*args)))
            return found

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(BadSample) as caught:
        decode(head + (pixels + bomb if behind else bomb + pixels) + end, 16)
    assert caught.value.reason in ("not_an_image", "truncated_image")
    assert unpacked
    assert sum(unpacked) <= 2 << 20


def test_files_that_break_in_any_way_are_bad_samples(monkeypatch):
    """Pillow's AVIF reader, for one, raises RuntimeError."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8)).save(buffer, "PNG")
    for error in (RuntimeError, KeyError, ZeroDivisionError, TypeError, Image.DecompressionBombError):
        assert issubclass(error, BROKEN)

        def fail(*_, error=error):
            raise error("broken")

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
        with pytest.raises(BadSample) as caught:
            decode(buffer.getvalue(), 16)
        assert caught.value.reason == "truncated_image"


def test_one_place_opens_images():
    home = Path(relpretrain.__file__).parent
    found = [p for p in home.rglob("*.py") if re.search(r"\bImage\.open\(", p.read_text(encoding="utf-8"))]
    assert found == [home / "pixels.py"]
    with pytest.raises(FileNotFoundError):
        open_image("nowhere.jpg")
