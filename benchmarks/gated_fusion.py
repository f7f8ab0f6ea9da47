"""What gated early fusion costs: parameters, and FLOPs an image of each stream, counted without computing.

python -m benchmarks.gated_fusion
"""

from __future__ import annotations

from benchmarks.step_batches import OBJECTIVES, made_batches
from benchmarks.step_floor import floor
from benchmarks.step_worker import Side


def main() -> None:
    """Count forward and backward pass of a training step, X-VLM at base size, by stream."""
    batches, relations = made_batches(224, dict.fromkeys(OBJECTIVES, 4), 1, 30522)
    names = [objective for of in OBJECTIVES.values() for objective in of]
    print(
        "| fusion | parameters | "
        + " | ".join(f"{stream}: GFLOP an image (over floor)" for stream in OBJECTIVES)
        + " |"
    )
    print("|---" * (2 + len(OBJECTIVES)) + "|")
    for fusion in ("late", "gated"):
        arguments = {"image_size": 224, "vocab_size": 30522, "fusion": fusion}
        asked = {"model": "XVLM", "size": "base", "arguments": arguments, "objectives": names, "relations": relations}
        side = Side(asked | {"device": "fake", "precision": "fp32"})
        cells = []
        for stream, objectives in OBJECTIVES.items():
            batch = batches[stream][0]
            total = side._count(side.module.on_before_batch_transfer(batch, 0))["total"]
            least = sum(floor(side.module.backbone.config, batch, objectives, len(relations)).values())
            cells.append(f"{total / len(batch) / 1e9:.1f} ({total / least:.3f})")
        own = sum(p.numel() for p in side.module.backbone.parameters())
        print(f"| {fusion} | {own / 1e6:.1f}M | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
