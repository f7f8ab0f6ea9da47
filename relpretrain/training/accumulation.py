"""Checkpoints inside a gradient accumulation.

Gradients are in no checkpoint. Until the optimizer steps, nothing that is saved changes but the trainer's count of
batches, and the momentum teacher, which moves before the first of them: so a checkpoint taken then becomes that of the
first batch, and a resumed run computes the gradients again, to the bit.
"""

from __future__ import annotations

from typing import Any


def rewind(checkpoint: dict[str, Any], batches: int) -> None:
    """Let a Lightning checkpoint be the one that the last optimizer step would have left.

    Args:
        checkpoint: What the trainer is about to save; changed in place.
        batches: How many batches began since the last optimizer step.
    """
    loop = checkpoint["loops"]["fit_loop"]
    progress = loop["epoch_loop.batch_progress"]
    for count in (progress["total"], progress["current"]):
        done = count["ready"] - batches
        # As at the end of a batch, where Lightning saves: it counts the batch as completed when it resumes.
        count.update(ready=done, started=done, processed=done, completed=done - 1)
    progress["is_last_batch"] = False
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
