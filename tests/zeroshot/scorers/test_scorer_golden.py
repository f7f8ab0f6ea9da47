"""Official weights through the scorer, against what the official code recorded: file to scores, end to end."""

import pytest
import torch
from safetensors.torch import load_file

from relpretrain.checkpoints.checkpoint import load
from relpretrain.types import TextBatch
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.scorers.matching import ImageTokens
from tests.parity.official_files import NAMES, official, words_of_golden


class Recorded:
    """Hands out the recorded inputs: images and texts are their numbers."""

    def __init__(self, io):
        self.io = io

    def images(self, numbers):
        return self.io["inputs.image"][numbers]

    def texts(self, numbers):
        rows = [int(number) for number in numbers]
        return TextBatch(self.io["inputs.input_ids"][rows], self.io["inputs.attention_mask"][rows].bool())


def scorer_of(folder, tmp_path, by="itm"):
    path, arguments = official(folder)
    loaded = load(path, tokenizer=words_of_golden(tmp_path / "words"), arguments=arguments)
    io = load_file(folder / "io.safetensors")
    return MatchScorer(loaded.backbone, Recorded(io), by=by), io


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("by", ["itm", "itc", "both"])
def test_every_pair_of_albef(golden, tmp_path, by):
    scorer, io = scorer_of(golden / "albef_tiny", tmp_path, by)
    cosines = io["outputs.image_feat"] @ io["outputs.text_feat"].T
    scaled = cosines / scorer.backbone.temperature.item()
    expected = io["outputs.itm_logits_image_by_text"].clone() if by != "itc" else torch.zeros(6, 6, 2)
    expected[..., 1] += scaled if by != "itm" else 0
    features = scorer.encode_images(list(range(6)))
    index, texts = [i for i in range(6) for _ in range(6)], [str(t) for _ in range(6) for t in range(6)]
    close(scorer.score(features, index, texts).view(6, 6, 2), expected)
    close(scorer.similarities(features, [str(t) for t in range(6)]), cosines)


@pytest.mark.parametrize("name", NAMES[1:])
def test_regions_and_images_of_xvlm(golden, tmp_path, name):
    scorer, io = scorer_of(golden / name, tmp_path)
    texts = [str(t) for t in range(5)]
    visible = io["inputs.region_patch_mask"].bool()
    regions = ImageTokens(io["outputs.region.image_embeds"], visible)
    close(scorer.score(regions, range(5), texts), io["outputs.region.itm_logits"])
    features = scorer.encode_images([0, 1])
    close(features.tokens, io["outputs.full.image_embeds"])
    close(scorer.similarities(features, texts), io["outputs.full.image_feat"] @ io["outputs.text_feat"].T)
