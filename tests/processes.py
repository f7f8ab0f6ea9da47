"""Processes that need not import everything anew: forks of one that has imported it and does nothing else."""

import multiprocessing
import multiprocessing.forkserver
import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def context():
    """A context of `multiprocessing`. The process that is forked lasts as long as this one, for all tests of it."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.preloaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # where it finds `tests`; nothing else of a test's surroundings goes along
    multiprocessing.forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return found
