"""Fixtures for all tests."""

import gc
import logging
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for the processes that tests start

import pytest
import torch

HOME = Path(__file__).resolve().parent
SHARED = HOME.parents[1] / "shared"
LONGEST = (
    *("training/test_processes.py", "test_resume.py", "test_recipes.py", "training/test_compiling.py"),
    *("training/test_sharding.py", "training/test_syncs.py", "ablation/test_command.py", "test_real_photos.py"),
    *("adapters/test_empty_share.py", "adapters/test_official.py", "training/test_survival.py", "test_full_disk.py"),
    *("test_overfit.py", "training/test_run_folder.py", "training/test_resuming.py"),
)
"""Files that take longest. `make test` hands whole files to two processes, in order: one of these at the end would be
waited for by the other."""


def pytest_sessionstart():
    """The garbage collector would look at all that is imported, millions of objects, again and again."""
    gc.disable()


def pytest_collection_modifyitems(items):
    """The longest files come first, all others in their order."""
    place = {HOME / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_collection_finish():
    """From here on it looks only at what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors are faster, and sums reproducible, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _closed_streams(monkeypatch):
    """Lightning's log handlers keep the captured stderr of an earlier test."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


def _folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the checkout, which is absent")
    return folder


@pytest.fixture
def realdata() -> Path:
    """Real photos, annotations, benchmark files and recorded scores."""
    return _folder("realdata")


@pytest.fixture
def golden() -> Path:
    """Recorded outputs of the official ALBEF and X-VLM code."""
    return _folder("golden")
