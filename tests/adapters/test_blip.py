import pytest
import torch
import transformers
from torch import nn

from relpretrain import add_relation_objectives
from relpretrain.adapters.find import find
from relpretrain.adapters.hosts.blip import HuggingFaceBLIP
from relpretrain.objectives import VSG
from tests import two_ranks
from tests.adapters import host_checks as checks
from tests.adapters.test_dual import clip
from tests.adapters.test_dual import texts_for as dual_texts

CLS, SEP = 90, 91


def blip(seed=0):
    torch.manual_seed(seed)
    text = {"vocab_size": 95, "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 64}
    text |= {"num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 20, "projection_dim": 16}
    text |= {"pad_token_id": 0, "bos_token_id": CLS, "eos_token_id": SEP, "sep_token_id": SEP}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 5}
    std = {"initializer_range": 0.1}  # its default for images, 1e-10, is made for weights that are loaded
    vision |= {"image_size": 32, "patch_size": 8, "projection_dim": 16, **std}
    config = transformers.BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=16, **std)
    return transformers.BlipForImageTextRetrieval(config).eval()


def texts(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 9, (n,), generator=generator).tolist()
    rows = [[CLS, *torch.randint(3, 90, (k,), generator=generator).tolist(), SEP] for k in lengths]
    return checks.padded(rows, pad=0)


def own_outputs(host):
    text = texts(4)
    inputs = {
        "input_ids": text.input_ids,
        "attention_mask": text.attention_mask.long(),
        "pixel_values": checks.images(),
    }
    return [host(**inputs, use_itm_head=matching).itm_score for matching in (True, False)]


FUSION = tuple(f"text_encoder.encoder.layer.{i}.crossattention" for i in range(2))
PARTS = {
    "image encoder": ("vision_model.",),
    "text encoder": ("text_encoder.embeddings",),
    "fusion encoder": FUSION,
}


def test_it_is_recognised_and_says_what_it_serves(capsys):
    host = checks.attach(blip())
    assert find(host).adapter is HuggingFaceBLIP
    assert "VSG (ITC, ITM), MRC" in capsys.readouterr().out
    assert set(host.relation_losses(checks.graph_batch(texts))) == {"vsg_itc", "vsg_itm", "mrc"}


def test_similarities_are_the_hosts_own_over_its_temperature():
    host = checks.attach(blip())
    batch = checks.graph_batch(texts)
    view = checks.features_of(host, batch).view(batch.pairs)
    torch.testing.assert_close(view.similarities[0] * 0.07, own_outputs(host)[1], rtol=1e-3, atol=1e-6)
    assert checks.adapter_of(host).temperature.item() == pytest.approx(0.07, rel=1e-3)


def test_matching_scores_are_the_hosts_own():
    host = checks.attach(blip())
    batch = checks.graph_batch(texts)
    view = checks.features_of(host, batch).view(batch.pairs)
    scores = checks.adapter_of(host).match_logits(view.fused)
    torch.testing.assert_close(scores, own_outputs(host)[0], rtol=0, atol=1e-6)


def test_texts_that_change_places_are_matched_as_themselves():
    """A text carries its words: negatives take rows of `encode_text`, not ids."""
    host = checks.attach(blip())
    backbone = checks.adapter_of(host)
    batch, order = checks.graph_batch(texts), torch.tensor([2, 0, 3, 1])
    text, mask = (
        backbone.encode_text(batch.pairs.text.input_ids, batch.pairs.text.attention_mask),
        batch.pairs.text.attention_mask,
    )
    image = backbone.encode_image(batch.images)
    scores = backbone.match_logits(backbone.fuse(text[order], mask[order], image.tokens, image.mask))
    ids = batch.pairs.text.input_ids[order]
    expected = host(input_ids=ids, attention_mask=mask[order].long(), pixel_values=batch.images).itm_score
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


def test_gradients_reach_every_encoder():
    groups = {"vsg": PARTS | {"projections": ("vision_proj", "text_proj"), "head": ("itm_head",)}, "mrc": PARTS}
    checks.gradients_reach(blip(), checks.graph_batch(texts), groups)


def test_the_host_is_untouched():
    checks.host_is_untouched(blip(), own_outputs, checks.graph_batch(texts))


def test_autocast():
    checks.works_under_autocast(blip(), checks.graph_batch(texts))


def test_bfloat16():
    checks.serves_bfloat16(blip, checks.graph_batch(texts))


def test_accumulation():
    checks.gradients_accumulate(blip(), checks.graph_batch(texts), checks.graph_batch(texts, 1))


def test_copies_and_files():
    checks.copies_and_files_hold_it(blip(), blip, checks.graph_batch(texts))


def test_the_losses_fall():
    checks.losses_fall(blip(), checks.graph_batch(texts))


def test_regions():
    features = checks.regions_see_only_their_box(blip(), checks.graph_batch(texts))
    assert features.region_mask.sum(1).tolist() == [17, 5, 10]  # [CLS] and the patches that the boxes touch


def _share(rank):
    """Gradients of rank's half of the batch under DDP, or of all of it, for BLIP's MRC and a dual encoder's losses."""
    found = []
    for make, written in ((blip, texts), (clip, dual_texts("clip"))):
        host = checks.attach(make())
        batch = checks.graph_batch(written)
        if rank is None:
            losses = host.relation_losses(batch)
        else:
            wrapped = nn.parallel.DistributedDataParallel(host)
            losses = wrapped(checks.half(batch, rank))
        for name in [name for name in losses if name != "vsg_itm"]:  # negatives are drawn inside a process
            losses["sum"] = losses.get("sum", 0) + losses[name]
        (losses["sum"] + 0 * sum(losses.values())).backward()
        grads = {n: p.grad for n, p in host.named_parameters() if p.grad is not None}
        found.append(({n: v.detach() for n, v in losses.items() if n != "vsg_itm"}, grads))
    return found


def test_two_ranks_are_one():
    together, shares = _share(None), two_ranks.run(_share)
    for number, (losses, grads) in enumerate(together):
        (one, one_grads), (two, two_grads) = shares[0][number], shares[1][number]
        for name in losses:
            torch.testing.assert_close((one[name] + two[name]) / 2, losses[name], rtol=1e-4, atol=1e-5)
        for name, grad in grads.items():
            torch.testing.assert_close(one_grads[name], grad, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(two_grads[name], one_grads[name])


def test_a_compiled_backbone_gives_the_same_losses():
    plain, compiled = checks.attach(blip()), checks.attach(blip(seed=1))
    compiled.load_state_dict(plain.state_dict())
    batch = checks.graph_batch(texts)
    for layer in [*compiled.text_encoder.encoder.layer, *compiled.vision_model.encoder.layers]:
        layer.compile(backend="eager")
    expected, losses = plain.relation_losses(batch), compiled.relation_losses(batch)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-5, atol=1e-5)
    sum(losses.values()).backward()
    assert compiled.itm_head.weight.grad is not None


def test_half_a_blip_is_refused_with_what_it_lacks():
    host = blip()
    del host.itm_head
    before = list(host.state_dict())
    with pytest.raises(TypeError, match=r"BLIP of Hugging Face transformers, lacks itm_head \(matching head\)"):
        add_relation_objectives(host, [VSG()])
    assert list(host.state_dict()) == before


def test_fusion_sees_visible_tokens_alone():
    checks.fusion_ignores_what_is_hidden(blip().eval(), checks.graph_batch(texts))
