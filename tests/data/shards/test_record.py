import pytest

from relpretrain.data.shards.record import caption_weights_of, captions_of


@pytest.mark.parametrize(
    ("captions", "weights", "expected"),
    [
        (["a", "b"], None, None),
        (["a", "b"], [1, 0], [1, 0]),
        (["a", " ", "b"], [1, 2, "3"], [1, 3]),  # that of a blank caption goes with it
        ("a", [2], [2]),
    ],
)
def test_caption_weights(captions, weights, expected):
    record = {"captions": captions, "caption_weights": weights}
    assert caption_weights_of(record, captions_of(record, None)) == expected


@pytest.mark.parametrize("weights", [[1], [0, 0], [1, -1], [1, float("nan")], "1 2", [1, None]])
def test_malformed_caption_weights(weights):
    with pytest.raises(ValueError, match="caption_weights must be 2 numbers"):
        caption_weights_of({"captions": ["a", "b"], "caption_weights": weights}, ["a", "b"])
