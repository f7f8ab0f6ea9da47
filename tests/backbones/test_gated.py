"""Gated early fusion: what it leaves as it is, what it exchanges, and that it trains."""

import math

import pytest
import torch

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.backbones.gated import Meeting
from relpretrain.backbones.presets import from_preset
from relpretrain.checkpoints import Loaded, load
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.features import Features, lay_out
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Regions, TextBatch
from relpretrain.zeroshot.scorers import MatchScorer
from tests.objectives.standin import captions, graphs, regions

TINY = {"size": "tiny", "image_size": 32, "vocab_size": 50, "dropout": 0.0}
IDS = torch.randint(4, 50, (6, 7), generator=torch.Generator().manual_seed(1))
MASK = torch.arange(7) < torch.tensor([7, 5, 3, 7, 6, 2])[:, None]
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
PARTS = Regions(torch.tensor([0, 1, 2]), torch.rand(3, 16, generator=torch.Generator().manual_seed(3)) > 0.4)
MODELS = pytest.mark.parametrize(("kind", "depth"), [(ALBEF, 1), (ALBEF, 3), (XVLM, 1), (XVLM, 2)])


def pair(kind, depth, gate):
    """The same weights without gated fusion and with it."""
    torch.manual_seed(0)
    late = kind(**TINY, region_depth=depth).eval()
    gated = kind(**TINY, region_depth=depth, fusion="gated", gate=gate).eval()
    lacking = gated.load_state_dict(late.state_dict(), strict=False)
    assert not lacking.unexpected_keys
    assert all(key.startswith("early.") for key in lacking.missing_keys)
    return late, gated


def outputs(model):
    seen, text = model.encode_image(IMAGES, PARTS), model.encode_text(IDS, MASK)
    kv = model.precompute_image_kv(seen.tokens)
    return {
        "image embedding": model.project_image(seen.tokens),
        "region embedding": model.project_image(seen.region_tokens),
        "text embedding": model.project_text(text),
        "match": model.match_logits(model.fuse(text, MASK, seen.tokens, seen.mask)),
        "fast match": model.match(model.precompute_text(text, MASK), MASK, kv, seen.mask),
        "words": model.fuse(text, MASK, seen.tokens, seen.mask)[MASK],
        "region": model.fuse_first(text[:3], MASK[:3], model.precompute_image_kv(seen.region_tokens), seen.region_mask),
    }


@MODELS
def test_closed_gates_give_the_model_without_them(kind, depth):
    late, gated = pair(kind, depth, 0.0)
    with torch.no_grad():
        for name, value in outputs(gated).items():
            torch.testing.assert_close(value, outputs(late)[name], atol=2e-5, rtol=1e-4, msg=name)


@MODELS
def test_open_gates_change_pairs_and_no_embedding(kind, depth):
    late, gated = pair(kind, depth, 0.5)
    with torch.no_grad():
        before, after = outputs(late), outputs(gated)
    for name, value in after.items():
        same = torch.allclose(value, before[name], atol=1e-4)
        assert same == name.endswith("embedding"), name  # ITC stays unfused


@MODELS
def test_the_faster_ways_give_the_same(kind, depth):
    _, gated = pair(kind, depth, 0.5)
    with torch.no_grad():
        found = outputs(gated)
        torch.testing.assert_close(found["fast match"], found["match"], atol=1e-5, rtol=1e-4)
        text, seen = gated.encode_text(IDS, MASK), gated.encode_image(IMAGES)
        several = gated.fuse(text, MASK, seen.tokens, seen.mask)  # two texts for each image
        rows = torch.arange(3).repeat_interleave(2)
        torch.testing.assert_close(several, gated.fuse(text, MASK, seen.tokens[rows], seen.mask[rows]))
        for row in (2, 5):  # each pair alone, without padding
            ids, mask = IDS[row : row + 1, : MASK[row].sum()], torch.ones(1, int(MASK[row].sum()), dtype=torch.bool)
            image = seen.tokens[rows[row], None], seen.mask[rows[row], None]
            alone = gated.fuse(gated.encode_text(ids, mask), mask, *image)[0]
            torch.testing.assert_close(alone, several[row, : mask.sum()], atol=1e-5, rtol=1e-4)


def test_packed_tokens_give_what_padded_ones_do():
    _, gated = pair(XVLM, 1, 0.5)
    batch = regions()
    batch.images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        packed = Features(gated, lay_out(batch, lambda b: [b.pairs], gated), [batch.pairs]).batch
        fast = Features(gated, packed, [packed.pairs]).view(packed.pairs)
        seen = gated.encode_image(batch.images, Regions(packed.regions.image_index, packed.regions.patch_mask))
        ids, mask = batch.pairs.text.input_ids, batch.pairs.text.attention_mask
        slow = gated.fuse(gated.encode_text(ids, mask), mask, seen.region_tokens, seen.region_mask)
        torch.testing.assert_close(fast.fused_first()[:, 0], slow[:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(fast.fused[mask], slow[mask], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(fast.image_embedding, gated.project_image(seen.region_tokens))


def test_scoring_keeps_images_before_they_meet_a_text():
    """What retrieval caches of an image serves all texts, and scores are those of single pairs."""
    _, gated = pair(XVLM, 2, 0.5)

    class Ready:
        max_tokens = 7

        def images(self, images):
            return torch.stack(images)

        def texts(self, texts):
            rows = torch.tensor([int(text) for text in texts])
            return TextBatch(IDS[rows], MASK[rows])

    scorer = MatchScorer(gated, Ready())
    kept = scorer.encode_images(list(IMAGES))
    index, texts = [i for i in range(3) for _ in range(6)], [str(t) for t in range(6)] * 3
    logits = scorer.score(kept, index, texts)
    with torch.no_grad():
        for row, (i, t) in enumerate(zip(index, map(int, texts), strict=True)):
            length = int(MASK[t].sum())
            ids, mask = IDS[t, None, :length], MASK[t, None, :length]
            seen = gated.encode_image(IMAGES[i, None])
            own = gated.match_logits(gated.fuse(gated.encode_text(ids, mask), mask, seen.tokens, seen.mask))
            torch.testing.assert_close(logits[row], own[0], atol=1e-5, rtol=1e-4)


def test_a_meeting_equals_a_loop():
    torch.manual_seed(0)
    config = from_preset(**TINY, vision_width=32, vision_heads=2, fusion="gated", gate=0.3)
    meeting = Meeting(config).eval()
    text, image = torch.randn(2, 5, 64), torch.randn(2, 6, 32)
    text_mask, image_mask = torch.arange(5) < torch.tensor([[5], [3]]), torch.arange(6) < torch.tensor([[4], [6]])
    with torch.no_grad():
        new_text, new_image = meeting(text, text_mask, image, image_mask)
        for n in range(2):
            v, t = meeting.image_norm(image[n]), meeting.text_norm(text[n])
            q, v_values = meeting.image_in(v).chunk(2, 1)
            k, t_values = meeting.text_in(t).chunk(2, 1)
            for_image, for_text = torch.zeros(6, 64), torch.zeros(5, 64)
            for head in range(4):
                own = slice(16 * head, 16 * head + 16)
                for i in range(6):
                    scores = {j: math.exp(float(q[i, own] @ k[j, own]) / 4) for j in range(5) if text_mask[n, j]}
                    for j, score in scores.items():
                        for_image[i, own] += score / sum(scores.values()) * t_values[j, own]
                for j in range(5):
                    scores = {i: math.exp(float(q[i, own] @ k[j, own]) / 4) for i in range(6) if image_mask[n, i]}
                    for i, score in scores.items():
                        for_text[j, own] += score / sum(scores.values()) * v_values[i, own]
            torch.testing.assert_close(new_image[n], image[n] + 0.3 * meeting.image_out(for_image))
            torch.testing.assert_close(new_text[n], text[n] + 0.3 * meeting.text_out(for_text))


@pytest.mark.parametrize("kind", [ALBEF, XVLM])
def test_gates_learn_from_every_loss_on_pairs(kind):
    torch.manual_seed(0)
    momentum = {"momentum": 0.9, "queue_size": 8} if kind is ALBEF else {}
    model = kind(**TINY, region_depth=2, fusion="gated", **momentum)
    cases = [(ITM(), captions()), (MLM(), captions()), (MRC(RelationVocabulary(["on", "under"])), graphs())]
    if kind is XVLM:
        cases += [(VMA(), regions()), (BOX(), regions())]
    for objective, batch in [*cases, (ITC(), captions())]:
        batch.images = torch.randn(len(batch.images), 3, 32, 32)
        objective.attach(model)
        model.zero_grad()
        features = Features(model, batch, objective.views(batch), torch.Generator().manual_seed(0), model.teacher)
        objective(features).loss.backward()
        moved = [m.image_gate.grad is not None and m.image_gate.grad.abs().item() > 0 for m in model.early.meetings]
        assert all(moved) != isinstance(objective, ITC), type(objective).__name__


def test_recomputing_activations_changes_nothing():
    torch.manual_seed(0)
    plain = XVLM(**TINY, fusion="gated", gate=0.5)
    again = XVLM(**TINY, fusion="gated", gate=0.5, checkpointing=True)
    again.load_state_dict(plain.state_dict())
    found = []
    for model in (plain, again):
        text, seen = model.encode_text(IDS, MASK), model.encode_image(IMAGES)
        model.fuse(text, MASK, seen.tokens, seen.mask)[MASK].sum().backward()
        found.append(model.early.meetings[0].image_gate.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", [ALBEF, XVLM])
def test_a_checkpoint_gives_the_same_back(kind, tmp_path):
    write_wordpiece(["red", "blue"], tmp_path / "tokenizer")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    torch.manual_seed(0)
    model = kind(**TINY | {"vocab_size": len(tokenizer)}, fusion="gated", gate=0.25).eval()
    Loaded(model, Preprocess(tokenizer, 32), {}, None).save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model").backbone
    assert again.config == model.config
    ids, mask = torch.tensor([[2, 5, 3]]), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        seen, other = model.encode_image(IMAGES[:1]), again.encode_image(IMAGES[:1])
        one = model.fuse(model.encode_text(ids, mask), mask, seen.tokens, seen.mask)
        torch.testing.assert_close(one, again.fuse(again.encode_text(ids, mask), mask, other.tokens, other.mask))


def test_depths_and_refusals():
    assert from_preset(fusion="gated").meetings == 2  # before the last four blocks, and between them
    assert from_preset().meetings == 0
    assert from_preset(fusion="gated", region_depth=12, text_layers=3).meetings == 3
    with pytest.raises(ValueError, match=r"vision='swin' has region_depth=0: take a ViT"):
        from_preset(vision="swin", fusion="gated")
    with pytest.raises(ValueError, match="Unknown fusion 'gate'"):
        from_preset(fusion="gate")
