import os
import resource
import signal
import stat
import zipfile
from pathlib import Path

import pytest
import torch

import relpretrain
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.file import read_file, write
from relpretrain.checkpoints.sharded import INDEX
from relpretrain.errors import CheckpointError
from relpretrain.training.survival.checkpoint_io import CheckpointFiles
from relpretrain.writing import aside, files, folder_aside, remove_unfinished, replace_folder

CONTENT = {"state_dict": {"a": torch.arange(60_000.0), "b": torch.ones(3)}, "n": [1, 2]}


def test_what_was_written_can_be_read_by_torch_alone(tmp_path):
    path = tmp_path / "new" / "x.ckpt"
    write(CONTENT, path)
    assert torch.load(path, weights_only=True)["state_dict"]["a"].equal(CONTENT["state_dict"]["a"])
    assert read_file(path)["n"] == [1, 2]
    assert os.listdir(path.parent) == ["x.ckpt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A limit on the size of files stands for the disk; torch says nothing of the reason, the system does."""
    path = tmp_path / "x.ckpt"
    write({"old": 1}, path)
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write(CONTENT, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert raised.value.filename == str(path)
    assert read_file(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_all_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """A loss of power then leaves the old file or the new one, and never an empty one."""
    done, fsync, rename = [], os.fsync, os.replace

    def synced(number):
        found = os.fstat(number)
        done.append("folder" if stat.S_ISDIR(found.st_mode) else ("file", found.st_size))
        fsync(number)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("name"), rename(old, new)))
    path = tmp_path / "x.ckpt"
    write(CONTENT, path)
    assert done == [("file", path.stat().st_size), "name", "folder"]


def test_a_writer_that_was_killed_leaves_nothing_for_long(tmp_path):
    pid = os.fork()
    if not pid:
        with aside(tmp_path / "x.ckpt") as file:
            file.write(b"half")
            os._exit(9)  # as a kill: nothing is tidied up
    os.waitpid(pid, 0)
    assert not (tmp_path / "x.ckpt").exists()
    assert len(os.listdir(tmp_path)) == 1
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("exchanging", [True, False])
@pytest.mark.parametrize("before", ["nothing", "a file", "a folder"])
def test_a_folder_takes_its_name_when_it_is_whole(tmp_path, monkeypatch, before, exchanging):
    path = tmp_path / "x.ckpt"
    if before == "a file":
        path.write_bytes(b"old")
    elif before == "a folder":
        (path / "deep").mkdir(parents=True)
    if not exchanging:  # as on a file system that cannot
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    written = folder_aside(path)
    written.mkdir()
    (written / "new").write_bytes(b"new")
    replace_folder(written, path)
    assert os.listdir(tmp_path) == ["x.ckpt"]
    assert os.listdir(path) == ["new"]
    folder_aside(path).mkdir()  # a kill has left it
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_a_kill_between_two_names_leaves_one_to_go_on_with(tmp_path, monkeypatch):
    """Where the file system cannot exchange two folders, as NFS."""
    path, rename = tmp_path / "x.ckpt", os.replace
    path.mkdir()
    (path / "old").write_bytes(b"old")
    written = folder_aside(path)
    written.mkdir()
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())

    def killed(old, new):
        if old == written:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(written, path)
    remove_unfinished(tmp_path)
    (left,) = tmp_path.glob("*.ckpt")
    assert os.listdir(left) == ["old"]
    monkeypatch.undo()
    written.mkdir()
    replace_folder(written, path)
    assert path.is_dir()


def test_a_folder_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    path, kept, fsync = tmp_path / "x.ckpt", [], os.fsync
    written = folder_aside(path)
    written.mkdir()
    for name in ("meta.pt", "shard"):
        (written / name).write_bytes(b"x")

    def synced(number):
        kept.append((Path(os.readlink(f"/proc/self/fd/{number}")).name, path.exists()))
        fsync(number)

    monkeypatch.setattr(os, "fsync", synced)
    replace_folder(written, path)
    assert {name for name, named in kept if not named} == {"meta.pt", "shard", written.name}
    assert kept[-1] == (tmp_path.name, True)


def test_tensors_that_repeat_a_few_numbers_are_no_weights(tmp_path):
    tied = torch.rand(1000)
    write({"state_dict": {"a": tied, "b": tied}}, tmp_path / "tied.ckpt")
    assert read_file(tmp_path / "tied.ckpt")["state_dict"]["b"].equal(tied)
    write({"state_dict": {"a": torch.zeros(1).expand(10_000, 10_000)}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"holds tensors of 400,000,000 bytes in 4,"):
        read_file(tmp_path / "x.ckpt")


def test_a_file_takes_the_place_of_a_folder_of_shards(tmp_path):
    path = tmp_path / "x.ckpt"
    path.mkdir()
    (path / INDEX).write_bytes(b"")
    CheckpointFiles().save_checkpoint({"n": 1}, path)
    assert read_file(path)["n"] == 1
    assert os.listdir(tmp_path) == ["x.ckpt"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_torn_file_and_a_flipped_bit_are_recognised(tmp_path, share):
    path = tmp_path / "x.ckpt"
    write(CONTENT, path)
    whole = path.read_bytes()
    at = int(share * len(whole))
    path.write_bytes(whole[:at])
    with pytest.raises(CheckpointError, match="cut off"):
        read_file(path)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
    if share < 0.99:  # the end is a list of the parts, of which not every byte means something
        with pytest.raises(CheckpointError, match=r"is damaged .*: use an earlier checkpoint"):
            read_file(path)


def test_every_flipped_byte_is_told_or_means_nothing(tmp_path):
    path = tmp_path / "x.ckpt"
    write({"state_dict": {"a": torch.arange(40.0)}}, path)
    whole, told = path.read_bytes(), 0
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert read_file(path)["state_dict"]["a"].equal(torch.arange(40.0))
        except CheckpointError:
            told += 1
    assert told > len(whole) / 3 * 0.3  # the rest is padding and dates


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused(tmp_path):
    write({"state_dict": {"a": torch.zeros(1_000_000)}}, tmp_path / "x.ckpt")
    path = tmp_path / "y.ckpt"
    with zipfile.ZipFile(tmp_path / "x.ckpt") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    assert path.stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="unpacks to more than it holds"):
        checkpoints.read_any(path)


def test_files_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert relpretrain.checkpoints.checkpoint.read_any(tmp_path / "x.pt")["n"] == [1, 2]
