"""Try the adapters on the real official classes, from a clone of their repository; no test, for it needs the clone.

    python -m tests.adapters.check_official --code ALBEF --model albef
    python -m tests.adapters.check_official --code X-VLM --model xvlm_swin     (or xvlm_vit, xvlm_clip)

Builds the class with new weights and small numbers, compares VSG's losses with the model's own losses on the same
verbalised texts (same negatives, same masked words), and trains fifty steps on one batch of graphs. What the pinned
versions of its packages had, and today's have no more, is put in their place first.
"""

import argparse
import json
import os
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist

from benchmarks.step_official import new_weights, older_transformers, unused_parts_of_xvlm
from relpretrain import MRC, VSG, add_relation_objectives, graph_loader, remove_relation_objectives
from relpretrain.objectives import matching
from relpretrain.synthetic import generate

N = 4  # images of the batch
WIDTH, LAYERS, HEADS = 192, 6, 3
NEGATIVE_IMAGE, NEGATIVE_TEXT = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])


def bert(folder, words):
    config = json.loads(Path("configs/config_bert.json").read_text())
    numbers = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS, "vocab_size": words}
    config |= numbers | {"num_hidden_layers": LAYERS, "fusion_layer": LAYERS // 2, "encoder_width": WIDTH}
    return written(folder / "bert.json", config)


def written(path, config):
    path.write_text(json.dumps(config))
    return str(path)


def smaller(module):
    """The official ViT, whose numbers its class fixes, with those of this file."""
    vit = module.VisionTransformer
    module.VisionTransformer = lambda **given: vit(**{**given, "embed_dim": WIDTH, "depth": LAYERS, "num_heads": HEADS})


def albef(folder, tokenizer):
    from models import model_pretrain, xbert

    new_weights(xbert.BertForMaskedLM)
    smaller(model_pretrain)
    config = {"mlm_probability": 0.15, "embed_dim": 256, "image_res": 64, "vision_width": WIDTH, "temp": 0.07}
    config |= {"bert_config": bert(folder, len(tokenizer)), "queue_size": N, "momentum": 0.995}
    return model_pretrain.ALBEF(tokenizer=tokenizer, config=config, init_deit=False), 64


def xvlm(folder, tokenizer, vision):
    unused_parts_of_xvlm()
    from models import model_pretrain, xbert
    from models import xvlm as base

    new_weights(xbert.BertForMaskedLM)
    size, patch = (128, 32) if vision == "swin" else (64, 16)
    swin = {"image_res": size, "window_size": 4, "embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
    clip = {"patch_size": 16, "hidden_act": "quick_gelu", "num_attention_heads": HEADS, "attention_dropout": 0.0}
    clip |= {"intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS, "local_attn_depth": 4}
    config = {"image_res": size, "patch_size": patch, "use_clip_vit": vision == "clip", "use_swin": vision == "swin"}
    config |= {
        "vision_config": written(
            folder / "vision.json", {"vision_width": WIDTH, **(clip if vision == "clip" else swin)}
        )
    }
    config |= {"use_roberta": False, "text_encoder": "", "text_config": bert(folder, len(tokenizer))}
    smaller(base)
    build = base.build_vision_encoder
    base.build_vision_encoder = lambda config, load_params: (build(config)[0], WIDTH)  # new weights
    return model_pretrain.XVLM(config | {"embed_dim": 256, "temp": 0.07}), size


def official_losses(model, batch):
    """The model's own forward on the verbalised texts, with given negatives and masked words, and no queue."""
    text, mask = batch.pairs.text, batch.pairs.text.attention_mask.long()
    drawn = iter([*NEGATIVE_IMAGE, *NEGATIVE_TEXT])
    with mock.patch("torch.multinomial", side_effect=lambda *args: next(drawn)[None]):
        if hasattr(model, "visual_encoder"):
            model.mask = lambda *args, **kwargs: (text.masked_input_ids, text.labels)
            model._dequeue_and_enqueue = lambda *args: None
            queues = {"image_queue": torch.zeros(256, 0), "text_queue": torch.zeros(256, 0)}
            with mock.patch.dict(model._buffers, queues):
                inputs = types.SimpleNamespace(input_ids=text.input_ids, attention_mask=mask)
                mlm, itc, itm = model(batch.images, inputs, alpha=0)
        else:
            masked = [(labels != -100).nonzero()[:, 0] for labels in text.labels]
            most = max(map(len, masked))
            places = torch.stack([torch.nn.functional.pad(m, (0, most - len(m))) for m in masked])
            there = torch.arange(most) < torch.tensor([len(m) for m in masked])[:, None]
            ids = text.input_ids.gather(1, places).masked_fill(~there, -100)
            words = {"text_ids_masked": text.masked_input_ids, "masked_pos": places, "masked_ids": ids}
            itc, itm, mlm = model(batch.images, text.input_ids, mask, **words)
    return {"vsg_itc": itc, "vsg_itm": itm, "vsg_mlm": mlm}


def check(name, model, batch, relations):
    """Print the comparison, and the first and last losses of fifty steps."""
    model.eval()
    keys, kept = list(model.state_dict()), {key: value.clone() for key, value in model.state_dict().items()}
    add_relation_objectives(model, [VSG(), MRC(relations)])
    drawn, found = iter([NEGATIVE_IMAGE, NEGATIVE_TEXT]), torch.ones(N, dtype=torch.bool)
    with mock.patch.object(matching, "draw_hard_negatives", side_effect=lambda *args: (next(drawn), found)):
        ours = model.relation_losses(batch)
    remove_relation_objectives(model)
    assert list(model.state_dict()) == keys
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        for part, loss in official_losses(model, batch).items():
            own, theirs = ours[part].item(), loss.item()
            print(f"{name} {part}: {own:.7f}, the model's own {theirs:.7f}, difference {abs(own - theirs):.1e}")
            assert abs(own - theirs) < 1e-5
    add_relation_objectives(model.train(), [VSG(), MRC(relations)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    seen = []
    for _ in range(50):
        losses = model.relation_losses(batch)
        seen.append({part: value.item() for part, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    for part in seen[0]:
        print(f"{name} {part}: {seen[0][part]:.4f} at step 1, {seen[-1][part]:.4f} at step 50")
    assert all(seen[-1][part] < seen[0][part] for part in seen[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", required=True, help="clone of salesforce/ALBEF or zengyan-97/X-VLM")
    parser.add_argument("--model", required=True, choices=["albef", "xvlm_swin", "xvlm_vit", "xvlm_clip"])
    arguments = parser.parse_args()
    older_transformers()
    sys.path.insert(0, os.path.abspath(arguments.code))
    os.chdir(arguments.code)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        made = {"images_captions": 8, "images_regions": 8, "images_validation": 8, "items_vsr": 30, "items_valse": 4}
        world = generate(folder / "world", images_graphs=64, image_size=128, **made)
        from relpretrain.data.pipeline.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(world / "tokenizer")
        build = albef if arguments.model == "albef" else xvlm
        vision = [] if arguments.model == "albef" else [arguments.model.removeprefix("xvlm_")]
        model, size = build(folder, tokenizer, *vision)
        relations = str(world / "relations.json")
        loader = graph_loader(str(world / "graphs"), tokenizer, N, size, vocabulary=relations, separator=False)
        batch = next(b for b in loader if len(set(b.pairs.text_keys.tolist())) == N and len(set(b.relations)) > 2)
        check(arguments.model, model, batch, relations)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
