"""The file feeds a multi-image model of transformers: its processor and a forward pass, with random weights."""

import json

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from relpretrain.dialogues.make import Settings, make_dialogues
from tests.dialogues.world_checker import make_world

pytest.importorskip("transformers", minversion="4.48")  # processors that count the tokens of an image themselves

SIDE, PATCH = 32, 8


@pytest.fixture
def entries(tmp_path):
    shards = sorted(map(str, make_world(tmp_path, 24).glob("*.tar")))
    make_dialogues(shards, tmp_path / "d.json", Settings(("semantic", "geometric", "single"), 2, shots=1))
    return json.loads((tmp_path / "d.json").read_text())


def processor_of(texts):
    """A processor of LLaVA's kind with a tokenizer of words."""
    words = sorted({word for text in texts for word in text.split()})
    special = ["[PAD]", "[UNK]", "<image>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*special, "USER", "ASSISTANT", *words]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
    return LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def test_a_multi_image_model_reads_the_dialogues(entries, tmp_path):
    def text(entry):
        turns = (f"{turn['from'].replace('human', 'USER').replace('gpt', 'ASSISTANT')} {turn['value']}"
                 for turn in entry["conversations"])  # fmt: skip
        return " ".join(turns)

    processor = processor_of([text(entry) for entry in entries])
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH,
    )  # fmt: skip
    words = Qwen2Config(
        vocab_size=len(processor.tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision, text_config=words, image_token_index=image_token, vision_feature_layer=-1
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    for entry in entries:
        names = [entry["image"]] if isinstance(entry["image"], str) else entry["image"]
        images = [Image.open(tmp_path / name).convert("RGB") for name in names]
        batch = processor(images=images, text=text(entry), return_tensors="pt")
        assert len(batch["pixel_values"]) == len(names) == text(entry).count("<image>")
        with torch.no_grad():
            out = model(**batch, labels=batch["input_ids"])
        assert torch.isfinite(out.loss)
