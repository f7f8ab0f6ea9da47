"""What a step has encoded is freed with the step, not when the garbage collector comes by."""

import dataclasses
import gc
import weakref

import pytest
import torch

from tests.training.test_syncs import BACKBONES, SIDE, STREAMS, module


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", BACKBONES)
def test_a_batch_is_freed_after_its_step(name, stream):
    trained, batch = module(BACKBONES[name]()), STREAMS[stream]()
    batch = dataclasses.replace(batch, images=torch.zeros(len(batch.images), 3, SIDE, SIDE))
    batch = trained.on_before_batch_transfer(batch, 0)
    kept = weakref.ref(batch), weakref.ref(batch.images)
    gc.disable()
    try:
        trained.training_step(batch).backward()
        trained.on_before_optimizer_step(None)
        del batch
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()
