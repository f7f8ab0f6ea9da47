"""The loader of graph batches that is attached to a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from relpretrain.types import GraphBatch


class GraphStream(nn.Module):
    """Endless iterator over a loader of graph batches, with its position in the state dict.

    A loader with `seek(step)`, such as `relpretrain.graph_loader`, resumes at the stored position; others restart.
    Copies of the model share the loader.

    Args:
        loader: The loader, which is restarted when it ends.
    """

    def __init__(self, loader: Iterable[GraphBatch]) -> None:
        super().__init__()
        self.loader = loader
        self.next_step = 0
        self._iterator: Iterator[GraphBatch] | None = None

    def __next__(self) -> GraphBatch:
        """The next batch.

        Raises:
            ValueError: If the loader is empty.
        """
        if self._iterator is None:
            if hasattr(self.loader, "seek"):
                self.loader.seek(self.next_step)
            self._iterator = iter(self.loader)
        batch = next(self._iterator, None)
        if batch is None:
            self._iterator = iter(self.loader)
            batch = next(self._iterator, None)
        if batch is None:
            raise ValueError("The loader of graph batches is empty.")
        self.next_step = batch.step + 1
        return batch

    def get_extra_state(self) -> Tensor:
        """The next step."""
        return torch.tensor(self.next_step)

    def set_extra_state(self, state: Any) -> None:
        """Resume at a stored step."""
        self.next_step = int(state)
        self._iterator = None

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphStream:
        twin = GraphStream(self.loader)
        twin.next_step = self.next_step
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None}
