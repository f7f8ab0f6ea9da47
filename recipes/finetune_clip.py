"""Fine-tune a CLIP of Hugging Face on photos and graphs of your own: VSG as its contrastive loss, MRC on its regions.

Prerequisites: relpretrain data convert own --images PHOTOS --graphs graphs.jsonl --out data/mine
Launch:        python finetune_clip.py data/mine --model openai/clip-vit-base-patch32 --out runs/clip
Score:         relpretrain zeroshot --model hf:runs/clip --tasks vsr valse --data BENCHMARKS --out scores

Your own captions, if there are any, belong in the same loop: add CLIP's loss on them to `loss`.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

from relpretrain import MRC, VSG, add_relation_objectives, graph_loader
from relpretrain.adapters import remove_relation_objectives


def main(argv: list[str] | None = None) -> None:
    """Train, print the losses, and write a folder that `CLIPModel.from_pretrained` reads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", type=Path, help="folder of shards with graphs")
    parser.add_argument("--model", default="openai/clip-vit-base-patch32", help="name or folder (default: %(default)s)")
    parser.add_argument("--relations", type=Path, help="vocabulary of MRC (default: relations.json of the shards)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--steps", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="photos in a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1e-5, help="learning rate (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read photos (default: %(default)s)")
    args = parser.parse_args(argv)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    processor = CLIPImageProcessor.from_pretrained(args.model)
    model = CLIPModel.from_pretrained(args.model).to(device).train()
    relations = str(args.relations or args.graphs / "relations.json")
    add_relation_objectives(model, [VSG(max_relations=4), MRC(vocabulary=relations)])
    loader = graph_loader(
        str(args.graphs),
        tokenizer,
        batch_size=args.batch_size,
        image_size=model.config.vision_config.image_size,
        max_tokens=model.config.text_config.max_position_embeddings,
        vocabulary=relations,
        mean=processor.image_mean,
        std=processor.image_std,
        num_workers=args.workers,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.1)
    for step, batch in zip(range(1, args.steps + 1), loader, strict=False):
        losses = model.relation_losses(batch.to(device))
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0 or step == args.steps:
            print(f"step {step}/{args.steps}", *(f"{name} {value:.3f}" for name, value in losses.items()), sep="  ")

    remove_relation_objectives(model)  # the folder holds CLIP alone
    for part in (model, tokenizer, processor):
        part.save_pretrained(args.out)


if __name__ == "__main__":
    main()
