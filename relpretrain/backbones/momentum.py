"""The momentum teacher of ALBEF: an exponential moving average of the student, and a queue of its embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.backbones.encoders import Encoders
from relpretrain.distributed import gather, gather_sizes


class EmbeddingQueue(nn.Module):
    """First-in-first-out queue of embeddings of images and texts, equal on all processes.

    Args:
        embed_dim: Width of an embedding.
        size: Number of images and of texts that are kept.
    """

    image: Tensor
    text: Tensor
    image_ids: Tensor
    text_ids: Tensor  # `Pairs.text_keys`, under the name that checkpoints have
    pointer: Tensor

    def __init__(self, embed_dim: int, size: int) -> None:
        super().__init__()
        self.size = size
        # Initially random directions, as in the official code.
        self.register_buffer("image", F.normalize(torch.randn(embed_dim, size), dim=0))
        self.register_buffer("text", F.normalize(torch.randn(embed_dim, size), dim=0))
        self.register_buffer("image_ids", torch.full((size,), -1))
        self.register_buffer("text_ids", torch.full((size,), -1))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def put(
        self, image: Tensor, text: Tensor, image_ids: Tensor, text_keys: Tensor, sizes: list[int] | None = None
    ) -> None:
        """Replace the oldest entries by all processes' embeddings (n, embed_dim), of which n may differ.

        `sizes` is n by rank; it is gathered if None.
        """
        # Gather the joint batch; of more than fit, the last `size` rows.
        if sizes is None:
            sizes = gather_sizes(len(image))
        columns = [gather(tensor, sizes)[-self.size :] for tensor in (image, text, image_ids, text_keys)]
        # Write them behind the pointer, around the end.
        start = self.pointer + max(sum(sizes) - self.size, 0)
        where = (start + torch.arange(len(columns[0]), device=image.device)) % self.size
        for buffer, column in zip((self.image, self.text, self.image_ids, self.text_ids), columns, strict=True):
            buffer[..., where] = column.T.to(buffer.dtype) if column.dim() == 2 else column
        self.pointer.copy_((self.pointer + sum(sizes)) % self.size)


class MomentumTeacher(nn.Module):
    """Exponential moving average of a student's encoders (ALBEF, section 3.3), with an optional queue.

    It has no gradients, and follows train() and eval() of its parent module: dropout is on in training, as in the
    official code.

    Args:
        student: The model to average.
        momentum: Weight of the average's previous value in an update.
        queue_size: Number of embeddings of earlier steps that are kept; 0 for no queue.
        alpha: Weight of the soft targets at the end of the ramp.
        alpha_steps: Updates, one per optimizer step, over which the weight rises linearly from 0; 0 for no ramp.
    """

    def __init__(
        self,
        student: Encoders,
        momentum: float = 0.995,
        queue_size: int = 65536,
        alpha: float = 0.4,
        alpha_steps: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= momentum <= 1 or not 0 <= alpha <= 1:
            raise ValueError(f"momentum={momentum} and alpha={alpha} must be between 0 and 1.")
        if queue_size < 0 or alpha_steps < 0:
            raise ValueError(f"queue_size={queue_size} and alpha_steps={alpha_steps} must not be negative.")
        self.momentum = momentum
        self.final_alpha = alpha
        self.alpha_steps = alpha_steps
        self.updates = 0
        self.model = Encoders(student.config)
        own = self.model.state_dict()
        self.model.load_state_dict({key: value for key, value in student.state_dict().items() if key in own})
        self.model.requires_grad_(False)
        self.queue = EmbeddingQueue(student.config.embed_dim, queue_size) if queue_size else None

    @property
    def alpha(self) -> float:
        """Weight of the soft targets, in [0, 1]."""
        ramp = 1.0 if not self.alpha_steps else min(1.0, max(self.updates - 1, 0) / self.alpha_steps)
        return self.final_alpha * ramp

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move the average towards the student: once per optimizer step, before its features are computed."""
        theirs = dict(student.named_parameters())
        pairs = [(own, theirs[name].detach()) for name, own in self.model.named_parameters()]
        own, new = (list(column) for column in zip(*pairs, strict=True))
        torch._foreach_lerp_(own, new, 1 - self.momentum)
        self.updates += 1

    def enqueue(
        self, image: Tensor, text: Tensor, image_ids: Tensor, text_keys: Tensor, sizes: list[int] | None = None
    ) -> None:
        """Add a batch's embeddings (n, embed_dim) to the queue, after the losses of its optimizer step.

        `sizes` is n by rank, if known.
        """
        if self.queue is not None:
            self.queue.put(image, text, image_ids, text_keys, sizes)

    def get_extra_state(self) -> Tensor:
        """Number of updates, kept on the CPU so that reading it never waits for the device."""
        return torch.tensor([self.updates])

    def set_extra_state(self, state: Any) -> None:
        """Restore the number of updates."""
        self.updates = int(state[0])
