"""Tiny random models of other projects, written to folders as their own code writes them."""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,?'"]


def letters(max_length=32, begin="<s>", end="</s>"):
    """A tokenizer of letters that wraps texts as CLIP's does: begin token, letters, end token."""
    words = {token: number for number, token in enumerate(["<pad>", "<unk>", *LETTERS, " ", begin, end])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = [(begin, words[begin]), (end, words[end])]
    backend.post_processor = processors.TemplateProcessing(f"{begin} $A {end}", special_tokens=special)
    names = {"pad_token": "<pad>", "bos_token": begin, "eos_token": end, "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=max_length, **names)


_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION |= {"image_size": 32, "patch_size": 8}
_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _text(tokenizer, length):
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return _TEXT | special | {"vocab_size": len(tokenizer), "max_position_embeddings": length}


def random_weights(model):
    """Weights that make every part matter, unlike the small ones that models begin with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
            elif "norm" not in name.lower() and value.ndim == 1:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return model.eval()


def write_clip(folder, length=32):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = letters(length)
    text = _text(tokenizer, length)
    config = CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)
    random_weights(CLIPModel(config)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    _write_processor(folder, CLIPProcessor, CLIPImageProcessor(**size), tokenizer)
    return str(folder)


def write_siglip(folder, length=24):
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = letters(length)
    text = _text(tokenizer, length)
    config = SiglipConfig(text_config=text, vision_config=_VISION)
    random_weights(SiglipModel(config)).save_pretrained(folder)
    _write_processor(folder, SiglipProcessor, SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    return str(folder)


def write_blip(folder, length=32):
    from transformers import BlipConfig, BlipForImageTextRetrieval, BlipImageProcessor, BlipProcessor

    tokenizer = letters(length)
    text = _text(tokenizer, length) | {"encoder_hidden_size": 16, "sep_token_id": tokenizer.eos_token_id}
    config = BlipConfig(text_config=text, vision_config=_VISION, image_text_hidden_size=12, projection_dim=12)
    random_weights(BlipForImageTextRetrieval(config)).save_pretrained(folder)
    _write_processor(folder, BlipProcessor, BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    return str(folder)


def write_language_model(folder, begin=True):
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = letters(64)
    if not begin:
        tokenizer.bos_token = tokenizer.eos_token = None
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=2, n_head=2, **special)
    random_weights(GPT2LMHeadModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_openclip(folder):
    """Registers a tiny model "letters" and writes weights of it."""
    import open_clip

    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    (folder / "letters.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "letters.json")
    model = random_weights(open_clip.create_model("letters"))
    torch.save(model.state_dict(), folder / "weights.pt")
    return f"letters/{folder / 'weights.pt'}"


def _write_processor(folder, cls, images, tokenizer):
    """The processor, whose tokenizer some classes insist on being their own."""
    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("transformers 4 reads tokenizers of CLIP, SigLIP and BLIP from files of their own kinds only")
    images.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    state = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(state | {"processor_class": cls.__name__}))
