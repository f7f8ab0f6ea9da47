"""An image that several splits ask about is encoded once, and each split has what it would have had alone."""

import pytest

from relpretrain.zeroshot.evaluate import Ready, evaluate
from relpretrain.zeroshot.scorers.blind import LengthScorer
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common import base
from relpretrain.zeroshot.tasks.common.base import Item
from tests.zeroshot.helpers import ColourScorer, write_images

SPLITS = {
    "first": {"red": ("a red thing", "a blue thing"), "green": ("green grass",)},
    "second": {"red": ("a red thing", "a very red and very long text"), "blue": ("a blue thing",)},
    "third": {"blue": ("sky",), "red": ("a blue thing",), "green": ("not red", "green grass")},
}


def ready(folder):
    def item(number, name, texts):
        records = tuple({"label": f"{number}_{i}", "image": name} for i in range(len(texts)))
        return Item(str(folder / f"{name}.png"), texts, records)

    return [
        Ready(TASKS["vsr"], split, [item(i, *pair) for i, pair in enumerate(asked.items())], ())
        for split, asked in SPLITS.items()
    ]


class Limited(LengthScorer):
    """Says which texts it would have cut; counts the images that it is shown."""

    max_tokens = 13

    def __init__(self):
        super().__init__()
        self.encoded = []

    def encode_images(self, images):
        self.encoded += images
        return super().encode_images(images)

    def rate(self, texts):
        self.note_lengths(texts, [min(len(text), 13) for text in texts])
        return super().rate(texts)


@pytest.mark.parametrize("make", [ColourScorer, Limited])
@pytest.mark.parametrize("chunk", [1, 256])
def test_an_image_of_several_splits_is_encoded_once(tmp_path, monkeypatch, make, chunk):
    write_images(tmp_path)
    monkeypatch.setattr(base, "_CHUNK", chunk)
    parts, together, alone = ready(tmp_path), make(), make()
    expected = [evaluate(alone, [part])[0] for part in parts]
    found = evaluate(together, parts)
    assert [part.records for part in found] == [part.records for part in expected]
    assert [part.notes for part in found] == [part.notes for part in expected]  # texts at the limit, by split
    assert (len(alone.encoded), len(together.encoded)) == (7, 3)
    if make is Limited:
        assert ["at_limit" in record for record in found[1].records] == [False, True, False]
        assert "1 different text " in found[1].notes[0]
        assert "none reaches that" in found[2].notes[0]


def test_what_fails_later_leaves_what_was_scored(tmp_path):
    class Failing(ColourScorer):
        def encode_images(self, images):
            if self.encoded:
                raise ValueError("no memory left")
            return super().encode_images(images)

    write_images(tmp_path)
    skipped, scorer = {}, Failing()
    found = evaluate(scorer, ready(tmp_path), None, skipped)
    assert [part.split for part in found] == ["first"]
    assert skipped == {"vsr second": "no memory left", "vsr third": "no memory left"}
    assert scorer.encoded == ["red", "green"]
