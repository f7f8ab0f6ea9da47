"""Fixtures for all tests."""

import gc
import logging
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for the processes that tests start

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_sessionstart():
    """The garbage collector would look at all that is imported, millions of objects, again and again."""
    gc.disable()


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
