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


def own_tokenizer(kind, length):
    """The tokenizer class of a kind of model, over letters."""
    if kind == "clip":
        pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
        return transformers.CLIPTokenizer({p: n for n, p in enumerate(pieces)}, [], model_max_length=length)
    if kind in ("blip", "blip2"):
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
        return transformers.BertTokenizer({p: n for n, p in enumerate(pieces)}, model_max_length=length)
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *LETTERS, "▁"]
    tokenizer = transformers.Siglip2Tokenizer({p: n for n, p in enumerate(pieces)}, [], padding_side="right")
    end = [("<eos>", 1)]
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=end)
    return tokenizer


def write_own(kind, folder, length=24):
    """A model of random weights with the configuration, tokenizer and processor classes of its kind."""
    tokenizer = own_tokenizer(kind, length)
    ids = {name: getattr(tokenizer, f"{name}_token_id") or 0 for name in ("bos", "eos", "pad")}
    text = _TEXT | {f"{name}_token_id": number for name, number in ids.items()}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": length}
    images = {"size": {"height": 32, "width": 32}}
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)
        square = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        model, image = transformers.CLIPModel(config), transformers.CLIPImageProcessor(**square)
        processor = transformers.CLIPProcessor(image, tokenizer)
    elif kind == "siglip2":
        vision = {**_VISION, "num_patches": 16, "patch_size": 16}
        del vision["image_size"]
        config = transformers.Siglip2Config(text_config=text | {"projection_size": 16}, vision_config=vision)
        model = transformers.Siglip2Model(config)
        image = transformers.Siglip2ImageProcessor()
        processor = transformers.Siglip2Processor(image, tokenizer)
    elif kind == "siglip2_fixed":  # as the checkpoints of one resolution are
        config = transformers.SiglipConfig(text_config=text, vision_config=_VISION)
        model, image = transformers.SiglipModel(config), transformers.SiglipImageProcessor(**images)
        processor = transformers.SiglipProcessor(image, tokenizer)
    elif kind == "blip":
        text |= {"encoder_hidden_size": 16, "sep_token_id": tokenizer.sep_token_id}
        shared = {"image_text_hidden_size": 12, "projection_dim": 12}
        model = transformers.BlipForImageTextRetrieval(
            transformers.BlipConfig(text_config=text, vision_config=_VISION, **shared)
        )
        processor = transformers.BlipProcessor(transformers.BlipImageProcessor(**images), tokenizer)
    else:
        processor = transformers.Blip2Processor(
            transformers.BlipImageProcessor(**images), tokenizer, num_query_tokens=3
        )
        former = _TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": length, "encoder_hidden_size": 16}
        former |= {"use_qformer_text_input": True, "cross_attention_frequency": 1, "pad_token_id": 0}
        config = transformers.Blip2Config(
            vision_config=_VISION,
            qformer_config=former,
            text_config={"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 16, "ffn_dim": 16,
                         "num_hidden_layers": 1, "num_attention_heads": 2, "word_embed_proj_dim": 16},
            num_query_tokens=3,
            image_text_hidden_size=12,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )  # fmt: skip
        model = transformers.Blip2ForImageTextRetrieval(config)
    random_weights(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def write_llava(folder):
    """A generative model that looks at images."""
    tokenizer = letters(200)
    tokenizer.add_tokens(["<image>", "Yes", "No"], special_tokens=True)
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(**_VISION)
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, vision_feature_layer=-1
    )
    square = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(**square), tokenizer, patch_size=8, num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template="{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}",
    )  # fmt: skip
    random_weights(transformers.LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def write_qwen(folder):
    """A generative model that looks at images of any size, as Qwen2-VL."""
    tokenizer = letters(400)
    tokens = {name: f"<|{name}|>" for name in ("vision_start", "vision_end", "image_pad", "video_pad")}
    tokenizer.add_tokens([*tokens.values(), "Yes", "No"], special_tokens=True)
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    ids = [tokenizer.convert_tokens_to_ids(token) for token in tokens.values()]
    text = _TEXT | {"vocab_size": len(tokenizer), "num_key_value_heads": 2, "max_position_embeddings": 512}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **dict(zip(names, ids, strict=True)))
    sizes = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
    processor = transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes), tokenizer,
        transformers.Qwen2VLVideoProcessor(patch_size=8, merge_size=2),
        chat_template="{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|>"
        "<|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}",
    )  # fmt: skip
    random_weights(transformers.Qwen2VLForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
