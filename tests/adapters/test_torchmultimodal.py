import pytest
import torch

from relpretrain import add_relation_objectives
from relpretrain.adapters.find import find
from relpretrain.adapters.hosts.torchmultimodal import TorchMultimodalRetrieval, TorchMultimodalSimilarity
from relpretrain.objectives import VSG
from tests.adapters import host_checks as checks
from tests.adapters.official import texts
from tests.adapters.torchmultimodal import ALBEFModelForRetrieval, ALBEFModelWithSimilarity

HOSTS = {"retrieval": ALBEFModelForRetrieval, "similarity": ALBEFModelWithSimilarity}
ADAPTERS = {"retrieval": TorchMultimodalRetrieval, "similarity": TorchMultimodalSimilarity}
LOSSES = {"retrieval": {"vsg_itc", "vsg_itm", "mrc"}, "similarity": {"vsg_itc", "mrc"}}


def parts(name, fused):
    start = "model_with_similarity." * (name == "retrieval") + "albef_model."
    found = {"image encoder": f"{start}vision_encoder.", "text encoder": f"{start}text_encoder."}
    return found | ({"fusion encoder": f"{start}multimodal_encoder."} if fused else {})


def own_outputs(host):
    text = texts(4)
    with_loss = host(checks.images(), text.input_ids, text.attention_mask.long(), torch.arange(4))
    return [with_loss] if isinstance(with_loss, torch.Tensor) else [with_loss.sim_i2t, with_loss.fused]


@pytest.fixture(params=list(HOSTS))
def name(request):
    return request.param


def test_each_is_recognised_and_says_what_it_serves(name):
    host = HOSTS[name]()
    assert find(host).adapter is ADAPTERS[name]
    assert set(checks.attach(host).relation_losses(checks.graph_batch(texts))) == LOSSES[name]
    assert checks.adapter_of(host).patch_grid == (4, 4)


def test_scores_are_the_hosts_own():
    host = checks.attach(ALBEFModelForRetrieval().eval())
    batch = checks.graph_batch(texts)
    view = checks.features_of(host, batch).view(batch.pairs)
    text = batch.pairs.text
    scores = host(batch.images, text.input_ids, text.attention_mask.long(), is_train=False)
    torch.testing.assert_close(checks.adapter_of(host).match_logits(view.fused)[:, 1], scores)
    similarity = host.model_with_similarity(batch.images, text.input_ids, text.attention_mask.long(), None).sim_i2t
    torch.testing.assert_close(view.similarities[0], similarity, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_encoder(name):
    groups = {"vsg": parts(name, fused=name == "retrieval"), "mrc": parts(name, fused=True)}
    host = HOSTS[name]()
    checks.gradients_reach(host, checks.graph_batch(texts), groups)
    assert all(p.grad is None for n, p in host.named_parameters() if "encoder_m." in n)


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


def test_half_a_model_is_refused_with_what_it_lacks():
    host = ALBEFModelForRetrieval()
    del host.model_with_similarity.albef_model.multimodal_encoder
    before = list(host.state_dict())
    lacks = r"ALBEF of torchmultimodal, lacks model_with_similarity.albef_model.multimodal_encoder \(fusion encoder\)"
    with pytest.raises(TypeError, match=lacks):
        add_relation_objectives(host, [VSG()])
    assert list(host.state_dict()) == before


def test_fusion_sees_visible_tokens_alone(name):
    checks.fusion_ignores_what_is_hidden(HOSTS[name]().eval(), checks.graph_batch(texts))
