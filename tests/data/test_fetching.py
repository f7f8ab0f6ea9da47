"""Shards that arrive while training runs: the first windows first, in bounded room, and each machine its own."""

import dataclasses
import time
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from relpretrain.data import datamodule as module_file
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.fetching import Counters, Demand, Fetcher
from relpretrain.data.graph_loader import graph_loader
from relpretrain.data.sampling.order import WINDOW
from relpretrain.data.shards import cache as cache_file
from relpretrain.data.shards import remote
from relpretrain.data.shards.cache import GB, room_for
from relpretrain.errors import ConfigError
from tests.data.server import Server
from tests.data.small import stream, tokenizer, write_shards

SHARDS, SAMPLES, BATCH = 24, 48, 8
STEPS = SAMPLES // BATCH  # of an epoch


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    write_shards(folder / "shards", SAMPLES, 2)
    write_shards(folder / "many", 60, 1, prefix="m")
    return folder, tokenizer(folder)


@pytest.fixture
def server(home, tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAIT", 0.01)
    server = Server(home[0] / "shards")
    yield server
    server.close()


@pytest.fixture
def make(home, server):
    made = []

    def data(kind="captions", streams=None, nodes=1, **options):
        address = f"{server.address}/s-{{000000..{SHARDS - 1:06d}}}.tar"
        found = RelationDataModule(streams or {"c": stream(kind, address, BATCH)}, home[1], 16, **options)
        found.trainer = SimpleNamespace(num_nodes=nodes, lightning_module=None, training=True, global_step=0)
        made.append(found)
        found.prepare_data()
        return found

    yield data
    for each in made:
        each.teardown("fit")


def _run(data, steps):
    data.setup()
    for batch in islice(iter(data.train_dataloader()), steps):
        data.on_after_batch_transfer(batch, 0)
        data.trainer.global_step += 1
        yield batch


def _alone(monkeypatch):
    """Nothing is fetched ahead."""
    monkeypatch.setattr(Fetcher, "start", lambda self: None)


def test_the_first_step_takes_the_first_window(make, server, monkeypatch):
    _alone(monkeypatch)
    data = make()
    assert not server.shards_asked  # nothing is copied before
    next(_run(data, 1))
    assert len(server.shards_asked) <= WINDOW
    assert sum(server.sent[path] for path in server.shards_asked) <= WINDOW * max(server.sent.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_window_comes_while_this_one_is_read(make, server, workers):
    data = make(num_workers=workers, prefetch=1)
    batches = _run(data, 3 * STEPS)
    first = next(batches)
    end = time.monotonic() + 30
    while len(set(server.shards_asked)) < 2 * WINDOW and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    assert 2 * WINDOW <= len(set(server.shards_asked)) <= 3 * WINDOW
    keys = list(first.keys)
    for batch in batches:
        keys += batch.keys
    for epoch in range(3):
        assert Counter(keys[epoch * SAMPLES : (epoch + 1) * SAMPLES]) == dict.fromkeys(
            (f"small/s-{i // 2:06d}/k{i:03d}" for i in range(SAMPLES)), 1
        )
    assert len(server.shards_asked) == SHARDS  # each once, over three epochs
    logged = {name.removeprefix("data/cache/"): value for name, value in data.counters().items() if "/cache/" in name}
    assert logged["gb"] >= logged["fetched_gb"] == pytest.approx(sum(server.sent[p] for p in server.shards_asked) / GB)
    assert 0 < logged["hits"] < 1
    assert logged["waited_seconds"] > 0


def test_disk_is_never_above_the_limit_over_three_epochs(home, server, tmp_path, monkeypatch):
    server.folder = home[0] / "many"
    most, watched = [0], cache_file.publish

    def publish(part, path):
        watched(part, path)
        files = [file.stat().st_size for file in (tmp_path / "cache/shards").iterdir() if file.suffix != ".lock"]
        most[0] = max(most[0], sum(files))

    monkeypatch.setattr(cache_file, "publish", publish)
    _alone(monkeypatch)  # in this process: what it publishes is seen
    address = f"{server.address}/m-{{000000..000059}}.tar"
    streams = {"c": stream("captions", address, 4)}
    with pytest.raises(
        ConfigError, match=r"cache_gb=0\.0001 cannot hold the shards .* Set it to ([0-9.]+) or more"
    ) as told:
        RelationDataModule(streams, home[1], 16, cache_gb=0.0001).setup()
    enough = float(str(told.value).split("Set it to ")[1].split()[0])
    data = RelationDataModule(streams, home[1], 16, cache_gb=enough)
    data.setup()
    keys = [key for batch in islice(iter(data.train_dataloader()), 45) for key in batch.keys]
    for epoch in range(3):
        assert len(set(keys[60 * epoch : 60 * (epoch + 1)])) == 60
    assert 0.5 * enough * GB < most[0] <= enough * GB
    assert len(server.shards_asked) > 120  # all but what was still there came three times


def _equal(batch, parts):
    assert batch.keys == sum((part.keys for part in parts), ())
    assert torch.equal(batch.images, torch.cat([part.images for part in parts]))


def test_on_any_number_of_machines_the_batches_are_the_same_and_each_fetches_its_own(
    make, server, tmp_path, monkeypatch
):
    _alone(monkeypatch)
    seen, asked = {}, {}
    for nodes in (1, 2, 4):
        for node in range(nodes):
            monkeypatch.setattr(module_file, "rank", lambda node=node: node)
            monkeypatch.setattr(module_file, "world_size", lambda nodes=nodes: nodes)
            monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / f"cache{nodes}-{node}"))
            server.asked.clear()
            seen[nodes, node] = list(_run(make(nodes=nodes, groups=4), STEPS))
            asked[nodes, node] = server.shards_asked
    for nodes in (2, 4):
        for whole, *parts in zip(seen[1, 0], *(seen[nodes, node] for node in range(nodes)), strict=True):
            _equal(whole, parts)
        for node in range(nodes):
            assert len(asked[nodes, node]) == len(set(asked[nodes, node])) <= SHARDS / nodes + 2
        assert sum(len(asked[nodes, node]) for node in range(nodes)) <= SHARDS + nodes
    assert sorted(asked[1, 0]) == sorted(set(asked[1, 0]))


def test_groups_are_the_machines_of_the_first_run_and_stay(make, monkeypatch):
    _alone(monkeypatch)
    monkeypatch.setattr(module_file, "world_size", lambda: 2)
    first = make(nodes=2)
    before = list(_run(first, 3))
    state = first.state_dict()
    assert (state["groups"], state["settings"]["seed"]) == (2, 0)
    monkeypatch.setattr(module_file, "world_size", lambda: 1)
    expected = list(_run(make(groups=2), 6))
    _equal(expected[2], [before[2], SimpleNamespace(keys=expected[2].keys[4:], images=expected[2].images[4:])])
    alone = make()
    alone.setup()
    assert alone.schedule.groups == 1
    with pytest.warns(
        UserWarning, match=r"checkpoint are divided among 2 group\(s\) \(data\.groups\), and go on so; a new"
    ):
        alone.load_state_dict(state)
    assert alone.schedule.groups == 2
    again = list(islice(iter(alone.train_dataloader()), 3))
    assert [batch.keys for batch in again] == [batch.keys for batch in expected[3:6]]


def test_machines_that_cannot_share_the_groups_are_refused(make, monkeypatch):
    monkeypatch.setattr(module_file, "world_size", lambda: 2)
    with pytest.raises(
        ConfigError, match=r"3 groups \(data\.groups\), which 2 machines cannot share.* Take 1, 3 machines"
    ):
        make(nodes=2, groups=3).setup()
    with pytest.raises(ConfigError, match=r"'c': groups=9 must be from 1 to batch_size=8"):
        make(groups=9).setup()
    data = make(nodes=2)
    data.setup()
    with pytest.warns(UserWarning, match="3 group"), pytest.raises(ConfigError, match="cannot share"):
        data.load_state_dict({**data.state_dict(), "groups": 3})


def test_what_changed_since_the_checkpoint_is_named(home, make, server, monkeypatch):
    _alone(monkeypatch)
    first = make()
    first.setup()
    state = first.state_dict()
    later = make(streams={"c": stream("captions", f"{server.address}/s-{{000000..000009}}.tar", BATCH)}, seed=1)
    later.setup()
    later.load_state_dict(state)
    told = r"seed: 0 before, 1 now; c/small shards: 24 before, 10 now; c/small samples: 48 before, 20 now"
    with pytest.warns(UserWarning, match=told):
        later.train_dataloader()
    entries = [dataclasses.replace(entry, bytes=entry.bytes + 512) for entry in first._shards["c"]["small"]]
    monkeypatch.setattr(module_file.checks, "find", lambda *_: {"c": {"small": entries}})
    other = make()
    other.setup()
    other.load_state_dict(state)
    with pytest.warns(UserWarning, match="contents: .* before"):
        other.train_dataloader()


def test_sixteen_datasets_open_each_shard_once(home, tmp_path):
    folders = {f"d{i:02d}": write_shards(tmp_path / f"d{i:02d}", WINDOW, 1) for i in range(16)}
    of = dataclasses.replace(stream("captions", "", 4), datasets=folders)
    data = RelationDataModule({"c": of}, home[1], 16)
    data.setup()
    steps = 60
    list(islice(iter(data.train_dataloader()), steps))
    read = {(row.dataset, row.shard) for step in range(steps) for row in data.schedule.rows(step)}
    assert len(read) > 100
    assert data._served.training.batches.opened.opened == len(data._served.training.batches.opened) == len(read)


def test_with_replacement_shards_stay_open(home):
    data = RelationDataModule(
        {"c": stream("captions", str(home[0] / "many"), 6, replacement=True)}, home[1], 16, num_workers=0
    )
    data.setup()
    list(islice(iter(data.train_dataloader()), 40))
    assert data._served.training.batches.opened.opened <= 60


def test_graphs_for_other_scripts_come_the_same_way(home, server):
    address = f"{server.address}/s-{{000000..{SHARDS - 1:06d}}}.tar"
    over = graph_loader(address, home[1], BATCH, 16, endless=False, cache_gb=0.01)
    assert len(server.shards_asked) == 1  # for the length of its texts: one of the first window
    batches = list(over)
    local = list(graph_loader(str(home[0] / "shards"), home[1], BATCH, 16, endless=False))
    assert [batch.keys for batch in batches] == [batch.keys for batch in local]
    assert len(server.shards_asked) == SHARDS
    with pytest.raises(ConfigError, match="cannot hold the shards"):
        graph_loader(address, home[1], BATCH, 16, cache_gb=1e-5)
    two = graph_loader(address, home[1], BATCH, 16, groups=2)
    two.seek(3)
    over.load_state_dict(two.state_dict())
    assert (over.schedule.groups, over.next_step) == (2, 3)


def test_what_is_needed_and_how_much(make, server, monkeypatch):
    _alone(monkeypatch)
    held = {"v": stream("captions", f"{server.address}/s-{{000020..000023}}.tar", 4)}
    data = make(validation=held, validation_batches=1)
    data.setup()
    demand = data._served.demand
    wanted = [entry.shard[-10:-4] for entry in demand.wanted()]
    assert len(wanted) == len(set(wanted))
    assert set(wanted[WINDOW : WINDOW + 4]) >= {f"{i:06d}" for i in range(20, 24)} - set(wanted[:WINDOW])
    entries = data._shards["c"]["small"]
    assert demand.least() == sum(map(room_for, entries))  # 24 shards are three windows
    many = Demand(data.schedule, data._served.training.batches.shards, [0], 100, data._served.cache)
    assert many.least() == demand.least()
    data._served.cache.limit = sum(map(room_for, entries[:4]))
    demand.at(1)
    assert len(demand.wanted()) <= 4


def test_the_fetcher_ends_with_its_parent_and_its_failures_are_told(make, server, caplog):
    server.answers["/s-000003.tar"] = 404
    data = make()
    data.setup()
    fetcher = Fetcher(data._served.demand, Counters())
    fetcher.start()
    process = fetcher._process
    fetcher.start()
    assert fetcher._process is process
    end = time.monotonic() + 30
    while len(server.shards_asked) < 2 * WINDOW and time.monotonic() < end:
        time.sleep(0.02)
    fetcher.stop()
    assert not process.is_alive()
    assert server.shards_asked.count("/s-000003.tar") <= 1  # it rests before it asks again
