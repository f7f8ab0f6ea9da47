"""Fixtures for the tests of this folder."""

import pytest

from relpretrain.data.datamodule import RelationDataModule
from tests.data.datamodules import KINDS
from tests.data.small import stream, tokenizer, write_shards


@pytest.fixture
def make(tmp_path):
    shards = write_shards(tmp_path / "shards")
    name = tokenizer(tmp_path)

    def data(streams=None, **options):
        chosen = streams or {k: stream(k, shards, b, ratio=r, image_rows=True) for k, (r, b) in KINDS.items()}
        return RelationDataModule(chosen, name, **{"image_size": 16, **options})

    data.shards, data.folder = shards, tmp_path
    return data
