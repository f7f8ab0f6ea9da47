"""Hidden tokens are left out of the computation, and neither values nor gradients notice."""

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from relpretrain.backbones import ALBEF, XVLM, encoders
from relpretrain.backbones.packing import pack
from relpretrain.backbones.presets import from_preset
from relpretrain.backbones.vision import build_vision
from relpretrain.features import Features, lay_out
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import RelationModule
from relpretrain.types import PackedTokens, Regions
from tests.objectives.standin import WORDS, captions, graphs, regions

SIDE = 32


@pytest.fixture(autouse=True)
def _texts_are_packed(monkeypatch):
    """Of tiny models, too."""
    monkeypatch.setattr(encoders, "NARROW", 0)


def masks(rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, length, generator=generator) < torch.rand(rows, 1, generator=generator)
    mask[:, 0] = True
    return mask


def test_tables_lead_there_and_back():
    mask = masks(40, 197)
    mask[3] = mask[7] = True
    packing = pack(mask)
    tokens = torch.randn(int(mask.sum()), 5, dtype=torch.float64, requires_grad=True)
    rows = packing.pad(tokens)
    assert torch.equal(packing.mask.sum(1), mask.sum(1))
    assert torch.equal(rows[packing.mask], tokens)
    assert not rows[~packing.mask].any()
    assert torch.equal(packing.unpad(rows), tokens)
    assert torch.equal(packing.firsts(tokens)[:, 0], rows[:, 0])
    assert torch.equal(mask[packing.row, packing.column], torch.ones(len(tokens), dtype=torch.bool))
    spread = packing.grouped.spread(tokens)
    assert torch.equal(packing.grouped.collect(spread), tokens)


def test_groups_hold_rows_of_similar_length():
    mask = masks(60, 197, seed=1)
    mask[3] = mask[7] = True
    packing = pack(mask)
    spread = packing.grouped.spread(torch.ones(int(mask.sum()), 1))
    whole = 0
    for rows, seen in packing.grouped.split(spread):
        sizes = rows.sum((1, 2))
        assert sizes.max() == rows.shape[1]
        assert rows.shape[1] <= 16 or 2 * sizes.min() > rows.shape[1]
        whole += len(rows) if seen is None else 0
        assert seen is None or torch.equal(seen[:, 0, 0].float(), rows[..., 0])
    assert whole == int(mask.all(1).sum()) >= 2  # attention without a mask
    assert len(packing.grouped.groups) <= 6


def test_gradients_of_both_ways_are_exact():
    mask = masks(5, 30, seed=2)
    packing, generator = pack(mask), torch.Generator().manual_seed(0)
    tokens = torch.randn(int(mask.sum()), 2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: packing.grouped.collect(packing.grouped.spread(x) ** 2), tokens)
    rows = torch.randn(*packing.mask.shape, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: packing.pad(packing.unpad(x) ** 2), rows)


def test_texts_keep_their_length():
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    assert torch.equal(pack(mask, in_place=True).mask, mask)
    assert pack(mask).mask.shape == (2, 2)


def masked(vision, images, index, mask):
    """The same with all patches of a region, those outside hidden from attention by a mask."""
    trunk = vision.trunk
    x = trunk.patch_embed(images)
    x = trunk.norm_pre(torch.cat([trunk.cls_token.expand(len(x), -1, -1), x], 1) + trunk.pos_embed)
    for block in trunk.blocks[: vision.shared_depth]:
        x = Block.forward(block, x)
    seen = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
    both = torch.cat([x, x[index]])
    keys = torch.cat([seen.new_ones(x.shape[:2]), seen])[:, None, None]
    for block in trunk.blocks[vision.shared_depth :]:
        both = Block.forward(block, both, attn_mask=keys)
    both = trunk.norm(both)
    return both[: len(x)], both[len(x) :][seen]


@pytest.mark.parametrize("kind", ["vit", "clip"])
@pytest.mark.parametrize("whole", [True, False])
def test_vit_equals_masked_attention_over_all_patches(kind, whole):
    vision = build_vision(from_preset("tiny", vision=kind, image_size=SIDE, patch_size=4, region_depth=2))
    images, index = torch.randn(3, 3, SIDE, SIDE), torch.tensor([0, 0, 2, 1, 2])
    mask = masks(5, 64, seed=3)
    mask[1] = True
    found = []
    for way in ("packed", "masked"):
        vision.zero_grad()
        if way == "packed":
            packing = pack(torch.cat([mask.new_ones(5, 1), mask], 1))
            features = vision(images, Regions(index, mask), packing, whole)
            tokens, seen = features.tokens, features.region_tokens
            assert len(tokens) == 3 * whole
        else:
            tokens, seen = masked(vision, images, index, mask)
        torch.manual_seed(1)
        loss = (seen * torch.randn_like(seen)).sum()
        if whole:
            loss = loss + (tokens * torch.randn_like(tokens)).sum()
        loss.backward()
        found.append((seen.detach(), tokens.detach()[: 3 * whole], [p.grad.clone() for p in vision.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


class Padded(nn.Module):
    """A backbone that knows nothing of tables."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def __getattr__(self, name):
        if name in ("pack_regions", "pack_texts", "encode_visible", "fuse_first"):
            raise AttributeError(name)
        return super().__getattr__(name) if name == "model" else getattr(self.model, name)


def module(name):
    tiny = {"image_size": SIDE, "vocab_size": WORDS, "dropout": 0.0, "text_layers": 1}
    torch.manual_seed(0)
    if name == "albef":
        backbone = ALBEF("tiny", patch_size=4, momentum=0.9, queue_size=8, **tiny)
    elif name == "swin":
        backbone = XVLM("tiny", vision="swin", patch_size=2, **tiny, drop_path=0.0)
    else:
        backbone = XVLM("tiny", patch_size=4, checkpointing=name == "checkpointing", **tiny)
    objectives = {"itc": ITC(), "itm": ITM(), "mlm": MLM(), "vma": VMA(), "vsg": VSG()}
    objectives |= {"mrc": MRC(RelationVocabulary(["on", "under"]))} | ({} if name == "albef" else {"box": BOX()})
    return RelationModule(backbone, objectives)


@pytest.mark.parametrize("name", ["albef", "vit", "swin", "checkpointing"])
def test_a_step_equals_that_of_padded_rows(name):
    trained = module(name)
    for batch in (captions(5), regions(4), graphs()):
        batch.images = torch.randn(len(batch.images), 3, SIDE, SIDE)
        found = []
        for padded in (False, True):
            trained.zero_grad()
            chosen = {n: trained._objective(n, batch) for n in trained._names(batch)}
            backbone, wanted = trained.backbone, trained._wanted
            data = batch if padded else lay_out(batch, wanted, backbone)
            assert (data.pairs.text.packing is None) == padded
            model = Padded(backbone) if padded else backbone
            assert isinstance(model, PackedTokens) != padded
            generator = torch.Generator().manual_seed(0)
            features = Features(model, data, wanted(data), generator, trained.teacher)
            losses = {n: objective(features).loss for n, objective in chosen.items()}
            sum(losses.values()).backward()
            gradients = {n: p.grad.clone() for n, p in trained.named_parameters() if p.grad is not None}
            found.append(({n: loss.detach() for n, loss in losses.items()}, gradients))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def shapes(part, act):
    """Shapes of what a part of the model is given while something is done."""
    given = []
    hook = part.register_forward_pre_hook(lambda _, arguments: given.append(tuple(arguments[0].shape)))
    act()
    hook.remove()
    return given


def test_only_what_is_looked_at_is_computed():
    trained = module("vit")
    kv, last = trained.backbone.fusion.layers[1].cross.kv, trained.backbone.vision.trunk.blocks[-1]
    up = trained.backbone.fusion.layers[1].up
    batch = graphs()
    batch.images, batch.objectives = torch.randn(2, 3, SIDE, SIDE), ("mrc",)
    visible = 4 + 16 + 64 + 32 + 32  # of boxes that cover a quarter, all and two halves of 64 patches

    def act():
        trained.training_step(batch)

    assert shapes(last, act) == [(visible, 64)]
    assert shapes(kv, act) == [(1, visible, 64)]
    assert shapes(up, act) == [(4, 1, 64)]
    batch = regions()
    batch.images, batch.objectives = torch.randn(2, 3, SIDE, SIDE), ("box",)
    assert shapes(last, act) == [(2, 65, 64)]  # no regions
    assert shapes(kv, act) == [(2, 65, 64)]  # once for an image, not for each of its regions
    assert shapes(up, act) == [(4, 1, 64)]
    batch.objectives = ("vma", "box")
    assert shapes(last, act) == [(2 * 65 + visible, 64)]


def test_whole_images_that_nobody_announced_are_encoded_when_asked_for():
    trained, batch = module("vit"), regions()
    batch.images = torch.randn(2, 3, SIDE, SIDE)
    features = Features(trained.backbone, lay_out(batch, lambda given: [given.pairs], trained.backbone), [batch.pairs])
    assert len(features.images.tokens) == 0
    alone = trained.backbone.encode_image(batch.images)
    torch.testing.assert_close(
        features.view(features.batch.pairs).whole_image[0], alone.tokens[batch.pairs.image_index]
    )


def test_all_tokens_of_a_region_share_their_fate():
    vision = build_vision(from_preset("tiny", image_size=SIDE, patch_size=4, drop_path=0.5)).train()
    block = vision.trunk.blocks[-1]
    mask = masks(6, 65, seed=4)
    packing = pack(mask)
    x = torch.randn(2 * 65 + int(mask.sum()), 64)
    with torch.no_grad():
        block.mlp.fc2.weight.zero_()
        block.mlp.fc2.bias.zero_()
        change = (block(x, 2, packing) - x).abs().sum(1)
    rows = [*change[:130].view(2, 65), *change[130:].split(mask.sum(1).tolist())]
    assert {bool(row.any()) for row in rows} == {True, False}
    assert all(bool(row.all()) == bool(row.any()) for row in rows)


def test_a_subclass_with_another_fusion_gets_padded_texts():
    class Other(XVLM):
        def fuse_cached(self, text, text_mask, image, image_mask):
            return text + 1

    model = Other("tiny", image_size=SIDE, vocab_size=WORDS)
    text, mask = torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool)
    assert model.pack_texts(mask) is None
    torch.testing.assert_close(model.fuse_first(text, mask, (), mask), text[:, :1] + 1)
    assert XVLM("tiny", image_size=SIDE, vocab_size=WORDS).pack_texts(mask) is not None


def test_texts_of_narrow_models_keep_their_padding(monkeypatch):
    """Whatever the batch: processes that shard a model must run the same parts."""
    monkeypatch.undo()
    mask = torch.arange(8) < torch.tensor([[8], [2], [1]])
    assert XVLM("tiny", image_size=SIDE, vocab_size=WORDS).pack_texts(mask) is None
    with torch.device("meta"):
        small = XVLM("small", vocab_size=WORDS)
    assert small.pack_texts(mask) is not None
    assert small.pack_texts(mask[:1]) is not None
