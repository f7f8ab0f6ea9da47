"""What it costs to stream: how fast a run over many samples begins, and what several machines fetch.

    python benchmarks/stream.py schedule                    # 1,200 and 40,000 shards of 10,000 samples, made up
    python benchmarks/stream.py fetch --nodes 1 2 4         # machines as processes with caches of their own

`schedule` reads a made-up manifest and builds the schedule of one process: its time and memory, and the time of a step.
`fetch` serves shards over http with a limited bandwidth, and trains nothing: each process takes the batches of its
machine for some epochs. It prints the bytes that came before the first batch and in each epoch, the largest cache, and
a digest of the joint batches, which must not depend on the number of machines.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.pipeline.tokenizer import write_wordpiece
from relpretrain.data.sampling.eligible import eligible_counts
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.manifest import load_manifest
from relpretrain.data.shards.writer import ShardWriter

CAPTION = "a man in a red shirt stands beside a white horse near the fence"
MB = 10**6


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    schedule = commands.add_parser("schedule")
    schedule.add_argument("--shards", type=int, nargs="+", default=[12, 1_200, 40_000], help="(default: %(default)s)")
    schedule.add_argument("--samples", type=int, default=10_000, help="of each shard (default: %(default)s)")
    schedule.add_argument("--batch", type=int, default=4_096, help="joint batch (default: %(default)s)")
    schedule.add_argument("--groups", type=int, default=8, help="(default: %(default)s)")
    fetch = commands.add_parser("fetch")
    fetch.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4], help="(default: %(default)s)")
    fetch.add_argument("--shards", type=int, default=64, help="(default: %(default)s)")
    fetch.add_argument("--samples", type=int, default=50, help="of each shard (default: %(default)s)")
    fetch.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    fetch.add_argument("--workers", type=int, default=1, help="of each process (default: %(default)s)")
    fetch.add_argument("--rate", type=float, default=20.0, help="MB/s of a connection (default: %(default)s)")
    args = parser.parse_args()
    if args.command == "schedule":
        for shards in args.shards:
            _apart(_schedule, shards, args.samples, args.batch, args.groups)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _fetch(Path(folder), args)


def _apart(work: Any, *arguments: Any) -> None:
    """In a process of its own: its memory is that of this work."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _schedule(shards: int, samples: int, batch: int, groups: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.json"
        entry = {"samples": samples, "bytes": 60_000 * samples, "sha256": "0" * 64, "problems": {},
                 "eligible": {"captions": samples, "regions": samples, "graphs": samples}}  # fmt: skip
        listed = [{"name": f"shard-{i:06d}.tar", **entry} for i in range(shards)]
        path.write_text(json.dumps({"shards": listed, "relation_counts": {}}))
        del listed
        before, start = _resident(), time.process_time()
        entries = load_manifest(str(path))
        read = time.process_time() - start
        stream = Stream("captions", {"d": "d"}, batch)
        counts, _ = eligible_counts({"s": stream}, {"s": {"d": entries}})
        schedule = BatchSchedule({"s": stream}, counts, 0, groups=groups)
        schedule.rows(0, range(batch // groups))
        first = time.process_time() - start
        held = _resident() - before
        steps, start = 200, time.process_time()
        for step in range(1, steps + 1):
            schedule.rows(step, range(batch // groups))
        each = (time.process_time() - start) / steps
        far, start = shards * samples * 3 // batch, time.process_time()  # in the fourth epoch
        schedule.rows(far, range(batch // groups))
        jump = time.process_time() - start
    print(
        f"{shards:7,} shards, {shards * samples:12,} samples: manifest {read:6.3f} s, first step {first:6.3f} s, "
        f"{held / MB:6.1f} MB; a step {1000 * each:5.2f} ms, a jump to step {far:,} {1000 * jump:6.1f} ms (CPU)",
        flush=True,
    )


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _fetch(folder: Path, args: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    with ShardWriter(folder / "shards", samples_per_shard=args.samples) as writer:
        for i in range(args.shards * args.samples):
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (96, 96, 3), np.uint8)).save(image, "PNG")
            writer.write(f"k{i:06d}", image.getvalue(), "png", {"image_id": str(i), "captions": [CAPTION]})
    write_wordpiece([CAPTION], folder / "tokenizer")
    size = sum(path.stat().st_size for path in (folder / "shards").glob("*.tar"))
    batch = 4 * max(args.nodes)
    steps = args.shards * args.samples * args.epochs // batch
    print(f"{args.shards} shards of {args.samples} samples, {size / MB:.0f} MB; batches of {batch}, {steps} steps")
    server, groups = _Server(folder / "shards", args.rate * MB), max(args.nodes)
    context = multiprocessing.get_context("spawn")
    for nodes in args.nodes:
        results: Any = context.Queue()
        given = (folder, server.address, args.shards, batch, groups, steps, args.epochs, args.workers, results)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = [context.Process(target=_node, args=(node, nodes, port, *given)) for node in range(nodes)]
        for process in started:
            process.start()
        found = sorted((results.get(timeout=1200) for _ in started), key=lambda result: result["node"])
        for process in started:
            process.join()
        joint = hashlib.sha256()
        for parts in zip(*(result.pop("digests") for result in found), strict=True):
            joint.update("".join(part for node in parts for part in node).encode())
        print(f"{nodes} machine(s), joint batches {joint.hexdigest()[:16]}")
        for result in found:
            sent = server.sent.pop(f"node{nodes}-{result['node']}")
            print(
                f"  machine {result['node']}: {result['first'] / MB:.2f} MB here at the first batch; "
                f"{sent / size / args.epochs:.3f} of all shards an epoch (share {1 / nodes:.3f}); cache at most "
                f"{result['most'] / MB:.2f} MB, limit {result['limit'] / MB:.2f} MB; waited {result['waited']:.1f} s"
            )


def _node(
    node: int, nodes: int, port: int, folder: Path, address: str, shards: int, batch: int, groups: int, steps: int,
    epochs: int, workers: int, results: Any,
) -> None:  # fmt: skip
    """Take the batches of one machine."""
    torch.set_num_threads(1)
    os.environ["RELPRETRAIN_CACHE"] = str(folder / f"cache{nodes}-{node}")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=node, world_size=nodes)
    where = f"{address}/node{nodes}-{node}/shard-{{000000..{shards - 1:06d}}}.tar"
    stream = Stream("captions", {"d": where}, batch, min_scale=1.0, color=False, flip=0.0)

    def make(limit: float | None) -> RelationDataModule:
        data = RelationDataModule(
            {"s": stream}, str(folder / "tokenizer"), 32, num_workers=workers, groups=groups, cache_gb=limit
        )
        data.trainer = SimpleNamespace(num_nodes=nodes, lightning_module=None, training=True, global_step=0)
        with contextlib.redirect_stdout(io.StringIO()):
            data.setup()
        return data

    limit = make(None)._served.demand.least() / 10**9  # type: ignore[union-attr]
    data = make(limit)
    folder_of = Path(os.environ["RELPRETRAIN_CACHE"]) / "shards"
    most, first, done = [0], 0, threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], _bytes(folder_of))

    watching = threading.Thread(target=watch)
    watching.start()
    digests, keys = [], []
    loader = data.train_dataloader()
    for batch_of in islice(iter(loader), steps):
        first = first or _bytes(folder_of)
        data.on_after_batch_transfer(batch_of, 0)
        digests.append([hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in batch_of.images])
        keys += batch_of.keys
    done.set()
    watching.join()
    data.teardown("fit")
    everyone: list[Any] = [None] * nodes
    dist.all_gather_object(everyone, keys)
    per = shards * steps * batch // (shards * epochs * nodes)  # of a machine in an epoch
    for epoch in range(epochs):
        seen = [key for each in everyone for key in each[epoch * per : (epoch + 1) * per]]
        if len(set(seen)) != len(seen):
            sys.exit(f"epoch {epoch}: a sample came twice")
    counters = data._served.counters  # type: ignore[union-attr]
    waited = sum(each.sums()["waited_seconds"] for each in counters)
    results.put({"node": node, "digests": digests, "first": first, "most": most[0], "limit": limit * 10**9,
                 "waited": waited})  # fmt: skip
    dist.barrier()


def _bytes(folder: Path) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_size
    return total


class _Server:
    """Serves a folder to each machine under a name of its own, at a rate, and counts the bytes."""

    def __init__(self, folder: Path, rate: float) -> None:
        sent = self.sent = dict[str, int]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer."""
                machine, _, name = self.path.strip("/").partition("/")
                path = folder / name
                if not path.exists():
                    self.send_error(404)
                    return
                body = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for start in range(0, len(body), 1 << 16):
                    self.wfile.write(body[start : start + (1 << 16)])
                    time.sleep((1 << 16) / rate)
                if name.endswith(".tar"):
                    sent[machine] = sent.get(machine, 0) + len(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main()
