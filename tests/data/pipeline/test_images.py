"""Training's images: decoded as Pillow does, resized as Pillow does up to the last bit, normalised on the device."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from relpretrain.data.pipeline.images import (
    CLIP_NORMALISATION,
    IMAGE_MEAN,
    IMAGE_STD,
    decode,
    pixels_of,
    resized,
    to_tensor,
)
from relpretrain.errors import BadSample
from relpretrain.features import Features
from relpretrain.scene_graph import Box
from relpretrain.types import CaptionBatch, Normalisation, Pairs, TextBatch


def photo(size=(64, 48), mode="RGB", **options):
    """A JPEG of smooth colours."""
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0])
    planes = np.stack([ramp, ramp[::-1], np.sin(ramp / 20) * 100 + 120], 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(planes).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"progressive": True}, {"subsampling": 0, "quality": 40}])
def test_decodes_the_same_pixels_as_pillow(options):
    data = photo(**options)
    with Image.open(io.BytesIO(data)) as image:
        assert torch.equal(decode(data, 40).image, pixels_of(image.convert("RGB")))


@pytest.mark.parametrize("left", [0.05, 0.5, 0.99])
def test_a_truncated_photo_is_refused(left):
    data = photo((200, 100))
    with pytest.raises(BadSample) as caught:
        decode(data[: int(left * len(data))], 90)
    assert caught.value.reason in ("truncated_image", "not_an_image")


def test_resizes_a_part_as_pillow_does():
    image = Image.open(io.BytesIO(photo()))
    small = resized(pixels_of(image), Box(8.0, 4.0, 56.0, 44.0), 24)
    expected = pixels_of(image.crop((8, 4, 56, 44)).resize((24, 24), Image.Resampling.BICUBIC))
    assert small.dtype == torch.uint8
    assert (small.int() - expected.int()).abs().max() <= 1


def test_evaluation_is_pillows_to_the_bit():
    image = Image.open(io.BytesIO(photo()))
    pixels = np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC))
    scale = torch.tensor([1 / (255 * s) for s in IMAGE_STD]).view(3, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(IMAGE_MEAN, IMAGE_STD, strict=True)]).view(3, 1, 1)
    expected = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).mul_(scale).sub_(shift)
    made = to_tensor(image, 24)
    assert torch.equal(made, expected)
    assert made.is_contiguous()


def batch_of(images, normalisation):
    ids = torch.zeros(len(images), 2, dtype=torch.long)
    pairs = Pairs(TextBatch(ids, ids.bool()), ids[:, 0], ids[:, 0])
    return CaptionBatch(images=images, image_ids=ids[:, 0], pairs=pairs, normalisation=normalisation)


def test_a_batch_is_normalised_by_its_own_statistics():
    pixels = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    before, half = pixels.clone(), Normalisation((0.5,) * 3, (0.5,) * 3)
    torch.testing.assert_close(batch_of(pixels, half).model_images(), pixels / 127.5 - 1)
    assert torch.equal(pixels, before)
    assert batch_of(pixels, CLIP_NORMALISATION).to("cpu").normalisation == CLIP_NORMALISATION
    ready = torch.randn(2, 3, 4, 4)
    assert batch_of(ready, None).model_images() is ready


def test_student_and_teacher_see_one_normalised_image():
    """Neither twice normalised nor made twice."""

    class Model:
        def __init__(self):
            self.seen = []

        def encode_image(self, images, regions=None):
            self.seen.append(images)

    class Teacher:
        model, queue = Model(), None

    student = Model()
    pixels = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    features = Features(student, batch_of(pixels, CLIP_NORMALISATION), [], teacher=Teacher())
    features.images, features.teacher_features.images  # noqa: B018
    assert torch.equal(student.seen[0], CLIP_NORMALISATION(pixels))
    assert Teacher.model.seen[0] is student.seen[0]
