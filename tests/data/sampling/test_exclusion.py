import io
import json

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.sampling import exclusion
from relpretrain.data.sampling.exclusion import DISTANCE, Exclusion, distances, phash


def encoded(image, format="JPEG", size=None, **options):
    buffer = io.BytesIO()
    (image if size is None else image.resize(size)).save(buffer, format, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_hash_of_a_known_picture():
    """One cosine along each axis: its two coefficients, and the constant, stand out of all others."""
    wave = np.cos(np.pi * 2 * (2 * np.arange(32) + 1) / 64)
    picture = Image.fromarray((128 + 50 * wave[None, :] + 50 * wave[:, None]).astype(np.uint8))
    bits = np.array(list(f"{phash(picture):064b}")).reshape(8, 8)
    assert bits[0, 0] == bits[0, 2] == bits[2, 0] == "1"


def test_blank_images_have_one_hash():
    assert phash(Image.new("RGB", (50, 40), "white")) == phash(Image.new("L", (9, 300), 17)) == 1 << 63


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "LA", "1"])
def test_any_mode_has_a_hash(mode):
    assert 0 <= phash(Image.new("RGB", (20, 20), "red").convert(mode)) < 1 << 64


def test_photos_are_known_again_and_told_apart(realdata):
    paths = sorted((realdata / "coco_mini" / "train2017").glob("*.jpg"))[:40]
    photos = [Image.open(path).convert("RGB") for path in paths]
    hashes = np.array([phash(photo) for photo in photos], np.uint64)
    apart = np.array([distances(value, hashes) for value in hashes.tolist()], int)
    assert apart[~np.eye(len(photos), dtype=bool)].min() > 2 * DISTANCE
    for photo, value in zip(photos, hashes.tolist(), strict=True):
        changed = [
            encoded(photo, quality=10),
            encoded(photo, "WEBP", quality=50),
            encoded(photo, size=(224, 224)),
            encoded(photo, size=(photo.width // 3, photo.height // 3), quality=50),
        ]
        moved = [(phash(image) ^ value).bit_count() for image in changed]
        assert max(moved) <= 4


def test_reasons():
    listed = Exclusion({"7", "b"}, [0xFF, 1 << 63], distance=2)
    assert listed.reason("7") == "excluded_id"
    assert listed.reason("7", 0xFF) == "excluded_id"
    assert listed.reason("8") is None
    assert listed.reason("8", 0xFF ^ 0b11) == "excluded_phash"
    assert listed.reason("8", 0xFF ^ 0b111) is None
    assert listed.reason("8", 1 << 63) == "excluded_phash"
    assert Exclusion().reason("7", 0xFF) is None
    assert len(listed) == 4


def test_distances_agree_with_counting_bits(monkeypatch):
    values = np.random.default_rng(0).integers(0, 1 << 64, 500, dtype=np.uint64)
    expected = [(int(value) ^ 12345).bit_count() for value in values]
    assert distances(12345, values).tolist() == expected
    monkeypatch.delattr(exclusion.np, "bitwise_count", raising=False)  # as numpy 1.26
    assert distances(12345, values).tolist() == expected
    assert distances(12345, values[:0]).tolist() == []


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "list.json"
    listed = Exclusion({"é/1.jpg", "2"}, [0, (1 << 64) - 1])
    listed.save(path)
    assert Exclusion.load(path) == listed
    assert json.loads(path.read_text()) == {
        "version": 1,
        "image_ids": ["2", "é/1.jpg"],
        "phashes": ["0000000000000000", "ffffffffffffffff"],
    }
    assert [p.name for p in tmp_path.iterdir()] == ["list.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", 'expected an object with "version": 1, got .list'),
        ('{"image_ids": []}', "got None"),
        ('{"version": 2}', "got 2"),
        ('{"version": 1, "ids": []}', "unknown keys ids"),
        ('{"version": 1, "image_ids": "7"}', "image_ids of .* must be a list, got '7'"),
        ('{"version": 1, "image_ids": [7]}', "image_ids of .* holds 7; expected a text"),
        ('{"version": 1, "phashes": ["12"]}', "phashes of .* holds '12'; expected 16 hex digits"),
        ('{"version": 1, "phashes": [12]}', "expected 16 hex digits"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content, message):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        Exclusion.load(path)
    with pytest.raises(ValueError, match=r"cannot read the exclusion list .*absent\.json"):
        Exclusion.load(tmp_path / "absent.json")
