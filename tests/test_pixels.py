"""Image files: which formats are read, and by whom."""

import io
import re
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
