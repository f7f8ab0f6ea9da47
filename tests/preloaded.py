"""What the processes of tests need, imported once for all of them (`tests.processes`)."""

import contextlib
import gc
import importlib

NEEDED = (
    "relpretrain.training.command.cli",
    "tests.adapters.host_checks",
    "tests.resume_run",
    "tests.training.survival_run",
)
LATER = ("pytest", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor")
"""Imported by what these import, or by their functions."""
HOSTS = ("open_clip", "transformers.models.bert.modeling_bert", "transformers.models.clip.modeling_clip")
"""Which some systems lack."""

gc.disable()  # as in `tests.conftest`
for name in NEEDED + LATER:
    importlib.import_module(name)
for name in HOSTS:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
gc.freeze()  # a fork looks only at what it makes, and shares the rest
gc.enable()
