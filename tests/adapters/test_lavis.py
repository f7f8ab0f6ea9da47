import pytest
import torch

from relpretrain import add_relation_objectives
from relpretrain.adapters.find import find
from relpretrain.adapters.hosts.lavis import LavisALBEF, LavisBLIP
from relpretrain.objectives import VSG
from tests.adapters import host_checks as checks
from tests.adapters.lavis import ENC, AlbefPretrain, BlipPretrain
from tests.adapters.official import texts

HOSTS = {"ALBEF": AlbefPretrain, "BLIP": BlipPretrain}
ADAPTERS = {"ALBEF": LavisALBEF, "BLIP": LavisBLIP}
LOSSES = {"ALBEF": {"vsg_itc", "vsg_itm", "vsg_mlm", "mrc"}, "BLIP": {"vsg_itc", "vsg_itm", "mrc"}}
PARTS = {
    "ALBEF": {
        "image encoder": ("visual_encoder.",),
        "text encoder": ("text_encoder.bert.text",),
        "fusion encoder": ("text_encoder.bert.fusion",),
    },
    "BLIP": {
        "image encoder": ("visual_encoder.",),
        "text encoder": ("text_encoder.embeddings",),
        "fusion encoder": ("text_encoder.crossattention",),
    },
}


def written(text):
    """Ids without [CLS] and padding, as the stand-in's tokenizer reads them."""
    return [
        " ".join(map(str, row[mask][1:].tolist()))
        for row, mask in zip(text.input_ids, text.attention_mask, strict=True)
    ]


def samples(seed=0):
    """What LAVIS's task gives a model in a step."""
    progress = {"epoch": 0, "iters": 0, "num_iters_per_epoch": 10}
    return {"image": checks.images(4, seed), "text_input": written(texts(4, seed)), **progress}


def own_outputs(host):
    return list(host(samples()).values())


@pytest.fixture(params=list(HOSTS))
def name(request):
    return request.param


def test_each_is_recognised_and_says_what_it_serves(name):
    host = HOSTS[name]()
    assert find(host).adapter is ADAPTERS[name]
    assert set(checks.attach(host).relation_losses(checks.graph_batch(texts))) == LOSSES[name]


def test_matching_scores_are_the_hosts_own(name):
    """Also where texts are padded to another length."""
    host = checks.attach(HOSTS[name]().eval())
    batch = checks.graph_batch(texts)
    view = checks.features_of(host, batch).view(batch.pairs)
    expected = host(samples())
    torch.testing.assert_close(checks.adapter_of(host).match_logits(view.fused), expected["itm_logits"])
    torch.testing.assert_close(view.similarities[0], expected["sim_i2t"], rtol=1e-4, atol=1e-4)


def test_texts_that_change_places_are_matched_as_themselves(name):
    host = checks.attach(HOSTS[name]().eval())
    backbone, batch, order = checks.adapter_of(host), checks.graph_batch(texts), torch.tensor([2, 0, 3, 1])
    text, mask = (
        backbone.encode_text(batch.pairs.text.input_ids, batch.pairs.text.attention_mask),
        batch.pairs.text.attention_mask,
    )
    image = backbone.encode_image(batch.images)
    scores = backbone.match_logits(backbone.fuse(text[order], mask[order], image.tokens, image.mask))
    moved = samples()
    moved["text_input"] = [moved["text_input"][i] for i in order.tolist()]
    torch.testing.assert_close(scores, host(moved)["itm_logits"])


def test_blip_marks_texts_that_meet_an_image():
    host = checks.attach(BlipPretrain().eval())
    batch = checks.graph_batch(texts)
    text = checks.adapter_of(host).encode_text(batch.pairs.text.input_ids, batch.pairs.text.attention_mask)
    marked = host.text_encoder.embeddings(torch.full((4, 1), ENC))
    torch.testing.assert_close(text[:, :1, text.shape[2] // 2 :], marked)


def test_gradients_reach_every_encoder(name):
    groups = {"vsg": PARTS[name] | {"temperature": ("temp",), "head": ("itm_head",)}, "mrc": PARTS[name]}
    host = HOSTS[name]()
    checks.gradients_reach(host, checks.graph_batch(texts), groups)
    assert all(p.grad is None for n, p in host.named_parameters() if n.startswith("visual_encoder_m"))


def test_the_host_is_untouched(name):
    checks.host_is_untouched(HOSTS[name](), own_outputs, checks.graph_batch(texts))


def test_autocast(name):
    checks.works_under_autocast(HOSTS[name](), checks.graph_batch(texts))


def test_bfloat16(name):
    checks.serves_bfloat16(HOSTS[name], checks.graph_batch(texts))


def test_accumulation(name):
    checks.gradients_accumulate(HOSTS[name](), checks.graph_batch(texts), checks.graph_batch(texts, 1))


def test_copies_and_files(name):
    checks.copies_and_files_hold_it(HOSTS[name]().eval(), HOSTS[name], checks.graph_batch(texts))


def test_the_losses_fall(name):
    checks.losses_fall(HOSTS[name](), checks.graph_batch(texts))


def test_regions(name):
    checks.regions_see_only_their_box(HOSTS[name]().eval(), checks.graph_batch(texts))


def test_the_hosts_step_and_graphs_go_backward_together(name):
    """The temperature is clamped in place by the host's forward, between the losses and their backward pass."""
    host = checks.attach(HOSTS[name]())
    graphs = checks.total(host, checks.graph_batch(texts))
    (host(samples())["loss"] + graphs).backward()
    assert host.temp.grad is not None


def test_half_a_model_is_refused_with_what_it_lacks(name):
    host = HOSTS[name]()
    del host.visual_encoder.blocks
    before = list(host.state_dict())
    with pytest.raises(TypeError, match=f"{name} of LAVIS, lacks visual_encoder.blocks"):
        add_relation_objectives(host, [VSG()])
    assert list(host.state_dict()) == before


def test_fusion_sees_visible_tokens_alone(name):
    checks.fusion_ignores_what_is_hidden(HOSTS[name]().eval(), checks.graph_batch(texts))
