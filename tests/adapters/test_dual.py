import pytest
import torch
import transformers
from torch import nn

from relpretrain import add_relation_objectives
from relpretrain.adapters.find import find
from relpretrain.adapters.hosts.dual import HuggingFaceCLIP, HuggingFaceSigLIP
from relpretrain.adapters.hosts.openclip import OpenCLIP, OpenCLIPViT
from relpretrain.features import patch_mask
from relpretrain.objectives import MRC, VSG
from relpretrain.types import Regions
from tests.adapters import host_checks as checks

CONTEXT, WORDS, BOS, EOS = 20, 99, 97, 98
TEXT = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}


def clip(seed=0):
    torch.manual_seed(seed)
    text = TEXT | {"num_hidden_layers": 2, "max_position_embeddings": CONTEXT}
    text |= {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": EOS}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=VISION | {"num_hidden_layers": 5}, projection_dim=16
    )
    return transformers.CLIPModel(config).eval()


def siglip(seed=0):
    torch.manual_seed(seed)
    text = TEXT | {"num_hidden_layers": 2, "max_position_embeddings": CONTEXT, "pad_token_id": 1}
    text |= {"bos_token_id": BOS, "eos_token_id": 1, "projection_size": 32}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION | {"num_hidden_layers": 5})
    return transformers.SiglipModel(config).eval()


def openclip(seed=0, kind="CLIP", vision=None, text=None, **options):
    open_clip = pytest.importorskip("open_clip", reason="needs open_clip_torch, which is not installed")
    torch.manual_seed(seed)
    vision = vision or {"image_size": 32, "layers": 5, "width": 32, "patch_size": 8, "head_width": 8}
    text = {"context_length": CONTEXT, "vocab_size": WORDS, "width": 32, "heads": 4, "layers": 2} | (text or {})
    return getattr(open_clip, kind)(16, vision, text, **options).eval()


def custom_text(seed=0):
    return openclip(seed, "CustomTextCLIP")


HOSTS = {"clip": clip, "siglip": siglip, "openclip": openclip, "openclip custom text": custom_text}
ADAPTERS = {
    "clip": HuggingFaceCLIP,
    "siglip": HuggingFaceSigLIP,
    "openclip": OpenCLIPViT,
    "openclip custom text": OpenCLIPViT,
}


def texts_for(name):
    """Random texts as the host's tokenizer writes them: CLIP's end with its end token, SigLIP's with padding."""

    def texts(n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        rows = []
        for _ in range(n):
            words = torch.randint(3, BOS, (int(torch.randint(2, 9, (1,), generator=generator)),), generator=generator)
            rows.append([*words.tolist(), 1] if name == "siglip" else [BOS, *words.tolist(), EOS])
        return checks.padded(rows, pad={"clip": EOS, "siglip": 1}.get(name, 0))

    return texts


def pooled(output):
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def own_features(name, host, images, text):
    """The features of the host's own methods, from texts padded as its own tokenizer does."""
    if name.startswith("openclip"):
        full = torch.nn.functional.pad(text.input_ids, (0, CONTEXT - text.input_ids.shape[1]))
        return host.encode_image(images), host.encode_text(full)
    if name == "siglip":
        full = torch.nn.functional.pad(text.input_ids, (0, CONTEXT - text.input_ids.shape[1]), value=1)
        return pooled(host.get_image_features(images)), pooled(host.get_text_features(full))
    return pooled(host.get_image_features(images)), pooled(
        host.get_text_features(text.input_ids, text.attention_mask.long())
    )


def own_outputs(name):
    text = texts_for(name)(4)

    def outputs(host):
        if name.startswith("openclip"):
            full = torch.nn.functional.pad(text.input_ids, (0, CONTEXT - text.input_ids.shape[1]))
            return list(host(checks.images(), full))
        out = host(
            input_ids=text.input_ids,
            pixel_values=checks.images(),
            attention_mask=text.attention_mask.long(),
            return_loss=True,
        )
        return [out.loss, out.logits_per_image]

    return outputs


PARTS = {
    "image encoder": ("vision_model.", "visual."),
    "text encoder": ("text_model.", "transformer.", "text."),
}


@pytest.mark.parametrize("name", HOSTS)
class TestEveryDualEncoder:
    def test_it_is_recognised_and_says_what_it_serves(self, name):
        host = HOSTS[name]()
        assert find(host).adapter is ADAPTERS[name]
        checks.attach(host)
        assert set(host.relation_losses(checks.graph_batch(texts_for(name)))) == {"vsg_itc", "mrc"}
        assert host.relation_objectives["mrc"].head[0].in_features == 4 * checks.adapter_of(host).embed_dim

    def test_features_are_the_hosts_own(self, name):
        host = checks.attach(HOSTS[name]())
        batch = checks.graph_batch(texts_for(name))
        view = checks.features_of(host, batch).view(batch.pairs)
        image, text = own_features(name, host, batch.images, batch.pairs.text)
        torch.testing.assert_close(view.whole_image[0][:, 0], image, rtol=0, atol=1e-6)
        torch.testing.assert_close(view.text[:, 0], text, rtol=0, atol=1e-6)
        scale = host.logit_scale.exp()
        expected = nn.functional.normalize(image) @ nn.functional.normalize(text).T * scale
        torch.testing.assert_close(view.similarities[0], expected, rtol=1e-4, atol=1e-4)

    def test_the_vsg_loss_is_that_of_clip_on_the_same_texts(self, name):
        host = checks.attach(HOSTS[name]())
        batch = checks.graph_batch(texts_for(name))
        image, text = (nn.functional.normalize(x) for x in own_features(name, host, batch.images, batch.pairs.text))
        logits = image @ text.T * host.logit_scale.exp()
        target = torch.arange(4)
        expected = (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2
        torch.testing.assert_close(host.relation_losses(batch)["vsg_itc"], expected, rtol=1e-5, atol=1e-5)

    def test_gradients_reach_both_encoders(self, name):
        groups = {"vsg": PARTS | {"temperature": ("logit_scale",)}, "mrc": PARTS}
        checks.gradients_reach(HOSTS[name](), checks.graph_batch(texts_for(name)), groups)

    def test_the_host_is_untouched(self, name):
        checks.host_is_untouched(HOSTS[name](), own_outputs(name), checks.graph_batch(texts_for(name)))

    def test_autocast(self, name):
        checks.works_under_autocast(HOSTS[name](), checks.graph_batch(texts_for(name)))

    def test_bfloat16(self, name):
        checks.serves_bfloat16(HOSTS[name], checks.graph_batch(texts_for(name)))

    def test_accumulation(self, name):
        texts = texts_for(name)
        checks.gradients_accumulate(HOSTS[name](), checks.graph_batch(texts), checks.graph_batch(texts, 1))

    def test_copies_and_files(self, name):
        checks.copies_and_files_hold_it(HOSTS[name](), HOSTS[name], checks.graph_batch(texts_for(name)))

    def test_the_losses_fall(self, name):
        checks.losses_fall(HOSTS[name]().train(), checks.graph_batch(texts_for(name)))

    def test_regions(self, name):
        checks.regions_see_only_their_box(HOSTS[name](), checks.graph_batch(texts_for(name)))


@pytest.mark.parametrize("name", HOSTS)
def test_a_region_is_blind_to_patches_outside_it_where_all_blocks_are_masked(name, monkeypatch):
    """With all of the blocks masked, there is no context left."""
    monkeypatch.setattr("relpretrain.adapters.hosts.regions.REGION_DEPTH", 5)
    host = checks.attach(HOSTS[name]())
    backbone = checks.adapter_of(host)
    box = torch.tensor([[0.25, 0.25, 0.5, 0.5]])  # the upper left quarter
    regions = Regions(torch.tensor([0]), patch_mask(box, backbone.patch_grid))
    one = checks.images(1)
    other = checks.images(1, seed=5)
    other[:, :, :16, :16] = one[:, :, :16, :16]
    same = [backbone.encode_image(images, regions).region_tokens for images in (one, other)]
    torch.testing.assert_close(*same, rtol=1e-5, atol=1e-6)
    other[:, :, 3, 3] += 1
    assert (backbone.encode_image(other, regions).region_tokens - same[0]).abs().max() > 1e-4


def test_a_compiled_backbone_gives_the_same_losses():
    plain, compiled = checks.attach(clip()), checks.attach(clip(seed=1))
    compiled.load_state_dict(plain.state_dict())
    batch = checks.graph_batch(texts_for("clip"))
    for block in compiled.vision_model.encoder.layers:
        block.compile(backend="eager")
    compiled.text_model.compile(backend="eager")
    torch._dynamo.utils.counters.clear()
    expected, losses = plain.relation_losses(batch), compiled.relation_losses(batch)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-5, atol=1e-5)
    sum(losses.values()).backward()
    assert compiled.logit_scale.grad is not None


RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}


class TestWhatOpenCLIPCannotServe:
    def test_a_resnet_serves_contrast(self):
        host = openclip(vision=RESNET)
        assert find(host).adapter is OpenCLIP
        add_relation_objectives(host, [VSG()])
        losses = host.relation_losses(checks.graph_batch(texts_for("openclip")))
        assert set(losses) == {"vsg_itc"}

    def test_mrc_on_a_resnet_is_refused_and_it_is_left_alone(self):
        host = openclip(vision=RESNET)
        before = list(host.state_dict())
        with pytest.raises(ValueError, match=r"MRC cannot be computed on OpenCLIP with an image encoder .* no regions"):
            add_relation_objectives(host, [VSG(), MRC()])
        assert list(host.state_dict()) == before

    @pytest.mark.parametrize("change", [{"pool_type": "avg"}, {"patch_dropout": 0.5}, {"attentional_pool": True}])
    def test_vits_with_other_pooling_or_dropped_patches_have_no_regions(self, change):
        vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 8} | change
        assert find(openclip(vision=vision)).adapter is OpenCLIP

    def test_longer_texts_are_refused(self):
        host = checks.attach(openclip())
        with pytest.raises(ValueError, match="Texts of 21 tokens given to a text encoder for 20"):
            checks.adapter_of(host).encode_text(torch.ones(1, 21).long(), torch.ones(1, 21).bool())

    def test_short_texts_where_padding_is_seen_are_filled_up_with_theirs(self):
        """SigLIP in OpenCLIP: a text encoder that attends both ways and pools at the last position."""
        host = checks.attach(openclip(kind="CustomTextCLIP", text={"no_causal_mask": True, "pool_type": "last"}))
        text = checks.padded([[5, 6, 7, 1], [8, 9, 1], [5, 1]], pad=1)
        full = nn.functional.pad(text.input_ids, (0, CONTEXT - 4), value=1)
        tokens = checks.adapter_of(host).encode_text(text.input_ids, text.attention_mask)
        torch.testing.assert_close(tokens[:, 0], host.encode_text(full))
        with pytest.raises(ValueError, match=r"attends to its padding.* pad them to 20 tokens"):
            checks.adapter_of(host).encode_text(text.input_ids[:1], text.attention_mask[:1])


@pytest.mark.parametrize("make", [clip, siglip])
def test_texts_longer_than_the_context_are_refused(make):
    backbone = checks.adapter_of(checks.attach(make()))
    with pytest.raises(ValueError, match="Texts of 21 tokens given to a text encoder for 20"):
        backbone.encode_text(torch.ones(1, 21).long(), torch.ones(1, 21).bool())


def test_flash_attention_has_no_masks():
    host = checks.attach(clip())
    host.vision_model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="attn_implementation='sdpa'"):
        host.relation_losses(checks.graph_batch(texts_for("clip")))


def test_eager_attention_gives_the_same_regions():
    sdpa, eager = clip(), clip()
    eager.vision_model.config._attn_implementation = "eager"
    eager.text_model.config._attn_implementation = "eager"
    batch = checks.graph_batch(texts_for("clip"))
    checks.attach(eager).load_state_dict(checks.attach(sdpa).state_dict())
    losses = eager.relation_losses(batch)
    for name, expected in sdpa.relation_losses(batch).items():
        torch.testing.assert_close(losses[name], expected, rtol=1e-4, atol=1e-5)


def test_the_bias_of_siglip_gets_no_gradient_from_graphs():
    host = checks.attach(siglip())
    checks.total(host, checks.graph_batch(texts_for("siglip"))).backward()
    assert host.logit_scale.grad.abs() > 0
    assert host.logit_bias.grad is None or host.logit_bias.grad == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, **TEXT)),
        lambda: transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=1, **VISION)),
        lambda: clip().vision_model,
        lambda: clip().text_model,
        lambda: __import__("torchvision").models.resnet18(),
    ],
    ids=["text alone", "images alone", "CLIP's image encoder", "CLIP's text encoder", "ResNet"],
)
def test_half_a_model_is_refused(make):
    host = make()
    before = list(host.state_dict())
    with pytest.raises(TypeError, match="cannot be served"):
        add_relation_objectives(host)
    assert list(host.state_dict()) == before
