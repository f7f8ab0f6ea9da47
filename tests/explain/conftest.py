"""Models with random weights, and one whose weights are made by hand so that its maps are known."""

import pytest
import torch
from PIL import Image, ImageDraw

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints.checkpoint import Loaded
from relpretrain.data.pipeline.images import IMAGE_MEAN, IMAGE_STD
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.objectives import MRC
from relpretrain.scene_graph import Box, Entity, Relation, RelationVocabulary, SceneGraph
from relpretrain.types import ImageFeatures

WORDS = ["a red blue green yellow square dog left right of above the on", "sofa"]
RED, BLUE, GREEN, YELLOW = (255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0)
KINDS = ("albef", "xvlm", "clip", "swin", "gated")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_wordpiece(WORDS, tmp_path_factory.mktemp("words")))


def make(kind, tokenizer, objectives=()):
    torch.manual_seed(3)
    size = 64 if kind == "swin" else 32
    more = {"vision": {"clip": "clip", "swin": "swin"}.get(kind, "vit"), "fusion_layers": 3}
    more |= {"fusion": "gated"} if kind == "gated" else {}
    numbers = {"size": "tiny", "image_size": size, "vocab_size": len(tokenizer), "init_std": 0.3}
    model = (ALBEF if kind == "albef" else XVLM)(**numbers, **more).eval()
    for objective in objectives:
        objective.attach(model)
    named = {type(o).__name__.lower(): o for o in objectives}
    vocabulary = objectives[0].vocabulary if objectives else None
    return Loaded(model, Preprocess(tokenizer, size), named, vocabulary)


@pytest.fixture
def loaded(tokenizer):
    return make("albef", tokenizer)


@pytest.fixture
def with_mrc(tokenizer):
    return make("xvlm", tokenizer, [MRC(RelationVocabulary(["left of", "right of", "on"]))])


def draw(*squares, size=(64, 48)):
    """A grey image with coloured boxes."""
    image = Image.new("RGB", size, (120, 120, 120))
    for colour, box in squares:
        left, top, right, bottom = box
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colour)
    return image


@pytest.fixture
def picture():
    """A red square at the upper left, a blue one at the lower right; on a grid of 4 x 4 one patch each."""
    return draw((RED, (0, 0, 16, 12)), (BLUE, (48, 36, 64, 48)))


@pytest.fixture
def graph():
    entities = (Entity("red square", Box(0, 0, 16, 12)), Entity("blue square", Box(48, 36, 64, 48)))
    return SceneGraph(entities, (Relation(0, "left of", 1), Relation(1, "right of", 0)))


@pytest.fixture
def planted(tokenizer):
    """A model whose words red, blue, green and yellow look at patches of their colour, and match if they find them."""
    torch.manual_seed(0)
    model = XVLM(size="tiny", image_size=32, vocab_size=len(tokenizer), text_layers=1, dropout=0.0).eval()
    width = model.config.text_width
    colours = {tokenizer.convert_tokens_to_ids(word): i for i, word in enumerate(("red", "blue", "green", "yellow"))}
    square = tokenizer.convert_tokens_to_ids("square")

    def encode_text(ids, mask, packing=None):
        """Each colour's direction at its word and at a square after it, nothing elsewhere."""
        states = torch.zeros(*ids.shape, width)
        states[..., 20:22] = torch.tensor([3.0, -3.0])  # so that norms hardly depend on the rest
        for row, text in enumerate(ids.tolist()):
            last = None
            for place, token in enumerate(text):
                last = colours.get(token, last if token == square else None)
                if last is not None:
                    states[row, place, last] = 1.0
        return states

    def encode_image(images, regions=None):
        """Each patch's colour, as far as it is no grey, after a first token without any."""
        mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGE_MEAN, IMAGE_STD))
        means = torch.nn.functional.adaptive_avg_pool2d(images * std + mean, model.patch_grid)  # (n, 3, rows, columns)
        red, green, blue = (means - means.amin(1, keepdim=True)).flatten(2).unbind(1)
        patches = torch.zeros(*red.shape, width)
        yellow = torch.minimum(red, green)
        patches[..., :4] = torch.stack([red - yellow, blue, green - yellow, yellow], -1)
        tokens = torch.cat([torch.zeros(len(images), 1, width), patches], 1)
        return ImageFeatures(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))

    model.encode_text, model.encode_image = encode_text, encode_image
    with torch.no_grad():
        for parameter in (*model.fusion.parameters(), *model.itm_head.parameters()):
            parameter.zero_()
        for layer in model.fusion.layers:
            for norm in (layer.attention_norm, layer.cross_norm, layer.ffn_norm):
                norm.weight.fill_(1)
        first, second = model.fusion.layers
        # First layer: colours ask for themselves; whatever is found is written into a direction of its own.
        first.cross.q.weight[:4, :4] = 30 * torch.eye(4)
        first.cross.kv.weight[:4, :4] = torch.eye(4)
        first.cross.kv.weight[width + 10, :4] = 1.0
        first.cross.out.weight[10, 10] = 1.0
        # Second layer: [CLS] reads the mean of all tokens.
        second.attention.qkv.weight[2 * width :] = torch.eye(width)
        second.attention.out.weight[:] = torch.eye(width)
        # The head: what was found speaks for a match.
        head = model.itm_head
        head[0].weight[0, 10] = 1.0
        head[0].bias[1:3] = torch.tensor([1.0, -1.0])
        head[1].weight.fill_(1)
        head[3].weight[1, 0] = 5.0
    return Loaded(model, Preprocess(tokenizer, 32), {}, None)
