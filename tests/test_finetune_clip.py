"""The script `recipes/finetune_clip.py`, on a tiny CLIP with new weights and generated images."""

import json
import runpy
from pathlib import Path

import pytest
import torch
import transformers

from relpretrain.synthetic import generate

SCRIPT = Path(__file__).parents[1] / "recipes" / "finetune_clip.py"


@pytest.fixture
def clip(tmp_path):
    """A folder with model, tokenizer of single characters, and image processor."""
    characters = [*"abcdefghijklmnopqrstuvwxyz,."]
    words = [*characters, *(f"{c}</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    text = {**shape, "vocab_size": len(words), "num_hidden_layers": 2, "max_position_embeddings": 77}
    text |= {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    vision = {**shape, "num_hidden_layers": 5, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def test_it_trains_and_leaves_a_clip(clip, tmp_path, capsys):
    few = {"images_captions": 4, "images_regions": 4, "images_graphs": 16, "images_validation": 4}
    world = generate(tmp_path / "world", **few, items_vsr=3, items_valse=2)
    options = [
        "--relations",
        str(world / "relations.json"),
        "--model",
        str(clip),
        "--out",
        str(tmp_path / "out"),
        "--steps",
        "3",
        "--batch-size",
        "8",
    ]
    runpy.run_path(str(SCRIPT))["main"]([str(world / "graphs"), *options, "--workers", "0", "--lr", "1e-3"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("step 3/3  vsg_itc ")
    assert "  mrc " in last
    before, after = (transformers.CLIPModel.from_pretrained(folder) for folder in (clip, tmp_path / "out"))
    assert after.state_dict().keys() == before.state_dict().keys()  # no relation head is left in it
    assert not torch.equal(after.visual_projection.weight, before.visual_projection.weight)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("a b").input_ids
