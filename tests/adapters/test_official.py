"""The official ALBEF and X-VLM, by stand-ins of the same attributes and calls."""

import copy
import dataclasses
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from relpretrain import add_relation_objectives, remove_relation_objectives
from relpretrain.adapters.find import find
from relpretrain.adapters.hosts.albef import OfficialALBEF
from relpretrain.adapters.hosts.xvlm import OfficialXVLM
from relpretrain.features import patch_mask
from relpretrain.objectives import MLM, VSG
from relpretrain.types import Regions
from tests import two_ranks
from tests.adapters import host_checks as checks
from tests.adapters.official import HostALBEF, HostXVLM, SwinTransformer, VisionTransformer, own_losses, texts

HOSTS = {
    "ALBEF": HostALBEF,
    "X-VLM (Swin)": partial(HostXVLM, SwinTransformer),
    "X-VLM (ViT)": partial(HostXVLM, partial(VisionTransformer, local_attn_depth=4)),
}


@pytest.fixture(params=list(HOSTS))
def make(request):
    return HOSTS[request.param]


def parts(host):
    image = "visual_encoder." if isinstance(host, HostALBEF) else "vision_encoder."
    return {
        "image encoder": image,
        "text layers": "text_encoder.bert.text",
        "fusion layers": "text_encoder.bert.fusion",
    }


def test_recognised_for_what_they_are():
    expected = {"ALBEF": OfficialALBEF, "X-VLM (Swin)": OfficialXVLM, "X-VLM (ViT)": OfficialXVLM}
    for name, make in HOSTS.items():
        host = make()
        found = find(host)
        assert (found.path, found.adapter) == ("", expected[name])
        backbone = found.backbone(host)
        assert backbone.patch_grid == (4, 4)
        assert backbone.fusion_dim == 16
        assert backbone.provides >= {"contrast", "matching", "words", "regions"}
        assert ("boxes" in backbone.provides) == (name != "ALBEF")


def test_the_retrieval_class_has_no_masked_words():
    host = HostALBEF()
    del host.text_encoder.cls
    add_relation_objectives(host)
    assert set(host.relation_losses(checks.graph_batch(texts))) == {"vsg_itc", "vsg_itm", "mrc"}
    with pytest.raises(TypeError, match="defines no word_logits"):
        checks.adapter_of(host).word_logits(torch.zeros(1, 16))
    assert checks.adapter_of(host).provides == {"contrast", "matching", "regions"}


def test_gradients_reach_image_text_and_fusion(make):
    host = make()
    heads = {"projections": ("vision_proj", "text_proj"), "matching": "itm_head", "words": "text_encoder.cls"}
    groups = {"vsg": parts(host) | heads | {"temperature": "temp"}, "mrc": parts(host)}
    checks.gradients_reach(host, checks.graph_batch(texts), groups)


def test_the_host_is_untouched(make):
    checks.host_is_untouched(make().eval(), own_losses, checks.graph_batch(texts))


def test_autocast(make):
    checks.works_under_autocast(make().eval(), checks.graph_batch(texts))


def test_bfloat16(make):
    checks.serves_bfloat16(lambda: make().eval(), checks.graph_batch(texts))


def test_accumulation(make):
    checks.gradients_accumulate(make().eval(), checks.graph_batch(texts), checks.graph_batch(texts, 1))


def test_copies_and_files(make):
    checks.copies_and_files_hold_it(make().eval(), make, checks.graph_batch(texts))


def test_the_losses_fall(make):
    checks.losses_fall(make(), checks.graph_batch(texts))


def test_regions(make):
    checks.regions_see_only_their_box(make().eval(), checks.graph_batch(texts))


def test_albefs_regions_are_those_of_xvlms_vit():
    """ALBEF has none of its own: with equal weights they are what X-VLM's official ViT computes."""
    albef, xvlm = HostALBEF(), HOSTS["X-VLM (ViT)"]()
    xvlm.vision_encoder.load_state_dict(albef.visual_encoder.state_dict())
    images = checks.images()
    regions = Regions(torch.tensor([0, 3, 3]), patch_mask(checks.BOXES[:3], (4, 4)))
    ours, theirs = (find(host).backbone(host).encode_image(images, regions) for host in (albef, xvlm))
    visible = regions.patch_mask
    torch.testing.assert_close(ours.tokens, theirs.tokens)
    torch.testing.assert_close(ours.region_tokens[:, 0], theirs.region_tokens[:, 0])
    torch.testing.assert_close(ours.region_tokens[:, 1:][visible], theirs.region_tokens[:, 1:][visible])
    assert torch.equal(ours.region_mask, theirs.region_mask)


def test_boxes_are_those_of_the_head():
    host = HOSTS["X-VLM (Swin)"]().eval()
    batch = checks.graph_batch(texts)
    backbone = find(host).backbone(host)
    text, image = (
        backbone.encode_text(batch.pairs.text.input_ids, batch.pairs.text.attention_mask),
        backbone.encode_image(batch.images),
    )
    fused = backbone.fuse(text, batch.pairs.text.attention_mask, image.tokens, image.mask)
    torch.testing.assert_close(backbone.boxes(fused), host.bbox_head(fused[:, 0]).sigmoid())


def test_masked_words_are_the_hosts_own_loss():
    """Through text and fusion layers one after the other, as the host's call with `mode="multi_modal"` does."""
    host = checks.attach(HostALBEF().eval())
    batch = checks.graph_batch(texts)
    text, seen = batch.pairs.text, host.visual_encoder(batch.images)
    fused = host.text_encoder.bert(
        text.masked_input_ids,
        attention_mask=text.attention_mask.long(),
        encoder_hidden_states=seen,
        encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long),
        return_dict=True,
    ).last_hidden_state
    logits = host.text_encoder.cls(fused).transpose(1, 2)
    expected = nn.functional.cross_entropy(logits, text.labels)
    torch.testing.assert_close(host.relation_losses(batch)["vsg_mlm"], expected)
    assert isinstance(host.relation_objectives["vsg"].terms["mlm"], MLM)


@pytest.mark.parametrize("order", ["host first", "graphs first"])
def test_losses_of_both_go_backward_together(make, order):
    """The host clamps its temperature in place: neither graph may be spoiled by the other's forward."""
    host = checks.attach(make())
    first, second = (own_losses(host), None) if order == "host first" else (None, checks.total(host, _batch()))
    both = [
        first if first is not None else own_losses(host),
        second if second is not None else checks.total(host, _batch()),
    ]
    (sum(both[0]) + both[1]).backward()
    assert host.temp.grad.isfinite()


def _batch():
    return checks.graph_batch(texts)


def test_a_temperature_at_its_border_is_clamped_like_the_hosts():
    host = checks.attach(HostALBEF())
    with torch.no_grad():
        host.temp.fill_(1e-5)
    temperature = checks.adapter_of(host).temperature
    assert float(temperature.detach()) == pytest.approx(0.001)
    assert float(host.temp.detach()) == pytest.approx(1e-5)


def test_a_call_with_graphs_alone_gives_the_relation_losses(make):
    host = checks.attach(make())
    batch = checks.graph_batch(texts)
    called, losses = host(batch), host.relation_losses(batch)
    assert all(torch.equal(called[name], losses[name]) for name in losses)


def test_a_whole_model_is_pickled_with_its_objectives():
    host = checks.attach(HostALBEF())
    again = pickle.loads(pickle.dumps(host))
    batch = checks.graph_batch(texts)
    assert float(checks.total(again, batch)) == float(checks.total(host, batch))
    with torch.no_grad():
        again.visual_encoder.pos_embed.zero_()
    assert float(checks.total(again, batch)) != float(checks.total(host, batch))


def test_an_average_of_weights_computes_its_own_losses(make):
    host = checks.attach(make())
    average = torch.optim.swa_utils.AveragedModel(host, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    average.update_parameters(host)
    batch = checks.graph_batch(texts)
    expected = host.relation_losses(batch)
    with torch.no_grad():
        for parameter in host.parameters():
            parameter.zero_()
    torch.testing.assert_close(average.module.relation_losses(batch)["mrc"], expected["mrc"])
    assert float(host.relation_losses(batch)["mrc"]) != float(expected["mrc"])


@pytest.mark.parametrize("name", ["visual_encoder", "text_encoder"])
def test_compiled_encoders_give_the_same_losses(name):
    plain, compiled = checks.attach(HostALBEF()), checks.attach(HostALBEF())
    compiled.load_state_dict(plain.state_dict())
    setattr(compiled, name, torch.compile(getattr(compiled, name), backend="eager"))
    _same_losses(plain, compiled)


def test_a_compiled_host_gives_the_same_losses():
    plain, compiled = checks.attach(HostXVLM()), checks.attach(HostXVLM())
    compiled.load_state_dict(plain.state_dict())
    module = torch.compile(compiled, backend="eager")
    torch.testing.assert_close(own_losses(module), own_losses(plain))
    _same_losses(plain, module)


def test_objectives_attach_to_a_compiled_host():
    host = torch.compile(HostXVLM(), backend="eager")
    with torch.no_grad():
        before = own_losses(host)
    checks.attach(host)
    _same_losses(checks.attach(HostXVLM()), host, load=True)
    remove_relation_objectives(host)
    with torch.no_grad():
        torch.testing.assert_close(own_losses(host), before)


def _same_losses(plain, other, load=False):
    batch = checks.graph_batch(texts)
    if load:
        other.relation_objectives.load_state_dict(plain.relation_objectives.state_dict())
    expected, losses = plain.relation_losses(batch), other.relation_losses(batch)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-5, atol=1e-5)
    sum(losses.values()).backward()
    assert other.itm_head is not None


def _steps(rank):
    """Gradients of DDP: captions and graphs in one backward pass each, one after the other, and in a common one."""
    found = []
    for together in (False, True):
        host = checks.attach(HostALBEF())
        module = host if rank is None else nn.parallel.DistributedDataParallel(host)
        batch = checks.graph_batch(texts)
        share = batch if rank is None else checks.half(batch, rank)
        share = dataclasses.replace(share, pairs=batch.pairs if rank is None else _with_words(batch, share, rank))
        own = sum(own_losses(module))  # the same captions on both
        losses = host.relation_losses(share) if together else None
        if losses is None:
            own.backward()
            losses = module(share)
            own = 0
        (sum(value for name, value in losses.items() if name != "vsg_itm") + 0 * losses["vsg_itm"] + own).backward()
        found.append({name: p.grad for name, p in host.named_parameters() if p.grad is not None})
    return found


def _with_words(batch, share, rank):
    text, keep = batch.pairs.text, slice(2 * rank, 2 * rank + 2)
    words = dataclasses.replace(
        share.pairs.text, masked_input_ids=text.masked_input_ids[keep], labels=text.labels[keep]
    )
    return dataclasses.replace(share.pairs, text=words)


def test_two_ranks_are_one():
    alone, ranks = _steps(None), two_ranks.run(_steps)
    assert len(alone) == 2
    for number, expected in enumerate(alone):
        assert any("relation_objectives" in name for name in expected)
        for name, grad in expected.items():
            for rank in ranks:
                torch.testing.assert_close(rank[number][name], grad, rtol=1e-3, atol=1e-5, msg=f"{number}: {name}")


@pytest.mark.parametrize("lost", ["text_proj", "itm_head", "temp"])
def test_half_an_albef_is_refused_and_left_untouched(lost):
    host = HostALBEF().eval()
    delattr(host, lost)
    state, attributes = copy.deepcopy(host.state_dict()), {k: copy.copy(v) for k, v in vars(host).items()}
    seen = host.visual_encoder(checks.images())
    with pytest.raises(TypeError) as refusal:
        add_relation_objectives(host)
    assert "ALBEF of salesforce/ALBEF" in str(refusal.value)
    assert f"lacks {lost} (" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert vars(host).keys() == attributes.keys()
    assert {name: id(module) for name, module in host.named_children()} == {
        name: id(module) for name, module in attributes["_modules"].items()
    }
    assert all(torch.equal(value, state[key]) for key, value in host.state_dict().items())
    assert torch.equal(host.visual_encoder(checks.images()), seen)


def test_vsg_alone_adds_no_parameters():
    host = HostALBEF()
    before = list(host.state_dict())
    add_relation_objectives(host, [VSG()])
    assert list(host.state_dict()) == before
