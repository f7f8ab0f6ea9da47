"""Folders of shards, as several processes write them: damaged ones are refused, and nothing in them is run."""

import pickle
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict_saver import save

from relpretrain.checkpoints import sharded
from relpretrain.checkpoints.checkpoint import read
from relpretrain.checkpoints.sharded import SUPPORTED, fill, read_rest, read_shards
from relpretrain.errors import CheckpointError
from relpretrain.training.survival.checkpoint_io import CheckpointFiles

needs_newer_torch = pytest.mark.skipif(not SUPPORTED, reason="this torch is too old to put shards together")


def test_an_older_torch_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sharded, "SUPPORTED", False)
    with pytest.raises(CheckpointError, match="is too old to put it together: install a newer one"):
        read_shards(tmp_path)


@needs_newer_torch
def test_an_index_that_names_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({}, tmp_path / "meta.pt")
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"builtins\.print"):
        read(tmp_path)


class Boom:
    """Makes a file where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("boom"),)


@needs_newer_torch
def test_no_file_of_a_folder_of_shards_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("x.ckpt")
    sound = {"state_dict.a": torch.ones(2), "optimizer_0.param_groups.0.lr": 0.1}
    bad = sound | {"optimizer_0.state.a.step": Boom()}
    wanted = dict.fromkeys(bad) | {"state_dict.a": torch.zeros(2)}
    for state, rest, read_part in ((sound, {"x": Boom()}, read_rest), (bad, {}, partial(fill, wanted))):
        shutil.rmtree(path, ignore_errors=True)
        save(state, checkpoint_id=path, no_dist=True)
        torch.save(rest, path / "meta.pt")
        for load in (partial(CheckpointFiles().load_checkpoint, weights_only=False), read_part):
            with pytest.raises(CheckpointError, match=r"whole.*: Weights only load failed"):
                load(path)
        assert not Path("boom").exists()


@needs_newer_torch
@pytest.mark.parametrize("name", ["__0_0.distcp", "meta.pt"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_flipped_bit_in_a_folder_of_shards_is_recognised(tmp_path, name, share):
    state = {"state_dict.a": torch.arange(30_000.0), "optimizer_0.state.a.step": torch.arange(30_000.0)}
    save(state, checkpoint_id=tmp_path / "x.ckpt", no_dist=True)
    torch.save({"n": torch.arange(30_000.0)}, tmp_path / "x.ckpt" / "meta.pt")
    read_shards(tmp_path / "x.ckpt", optimizers=True)
    file = tmp_path / "x.ckpt" / name
    content = bytearray(file.read_bytes())
    content[int(share * len(content))] ^= 16
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged \(Bad CRC-32 .*: use an earlier checkpoint"):
        read_shards(tmp_path / "x.ckpt", optimizers=True)
    if name != "meta.pt":
        with pytest.raises(CheckpointError, match="is damaged"):
            fill({key: torch.zeros(30_000) for key in state}, tmp_path / "x.ckpt")


@needs_newer_torch
@pytest.mark.parametrize("name", ["../secret.distcp", "/dev/zero", "nothing.distcp"])
def test_an_index_leads_to_no_file_outside(tmp_path, name):
    save({"state_dict.a": torch.ones(2)}, checkpoint_id=tmp_path / "x.ckpt", no_dist=True)
    torch.save({}, tmp_path / "x.ckpt" / "meta.pt")
    shutil.copy(tmp_path / "x.ckpt" / "__0_0.distcp", tmp_path / "secret.distcp")
    index = pickle.loads((tmp_path / "x.ckpt" / ".metadata").read_bytes())
    for found in index.storage_data.values():
        found.relative_path = name
    (tmp_path / "x.ckpt" / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(CheckpointError, match=rf"state_dict\.a is said to lie in '{name}', no file of"):
        read(tmp_path / "x.ckpt")


@needs_newer_torch
def test_an_index_speaks_of_no_more_than_its_files_hold(tmp_path):
    save({"state_dict.a": torch.ones(2)}, checkpoint_id=tmp_path / "x.ckpt", no_dist=True)
    torch.save({}, tmp_path / "x.ckpt" / "meta.pt")
    index = pickle.loads((tmp_path / "x.ckpt" / ".metadata").read_bytes())
    index.state_dict_metadata["state_dict.a"].size = torch.Size((1_000_000, 1_000))
    (tmp_path / "x.ckpt" / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(CheckpointError, match=r"speaks of 4,000,000,000 bytes of tensors, but its files hold \d,"):
        read(tmp_path / "x.ckpt")
