"""One process that takes steps when told to: JSON lines in, JSON lines out. `benchmarks/step.py` starts it.

It imports nothing but the package, in whichever checkout is first on its path, and uses what both sides of a comparison
have: the backbones, the objectives and `RelationModule.training_step`. The package is imported when a model is built:
the authors' code is measured by the same functions (`step_official.py`), and has a process without it.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_PARTS = (
    ("teacher", r"backbone\.teacher\."),
    ("keys and values", r"fusion\.layers\.\d+\.cross\.kv$"),
    ("images", r"backbone\.vision\."),
    ("texts", r"backbone\.text\."),
    ("fusion", r"backbone\.fusion\."),
)
"""Parts of a step by the names of its modules; what is in none of them counts as heads."""


def main() -> None:
    """Build the model that the first argument describes, and obey."""
    serve(Side)


def serve(build: Any) -> None:
    """Build what the first argument describes, and let it obey orders until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr
    side = build(json.loads(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(side.obey(json.loads(line))), file=answers, flush=True)


class Side:
    """A model, its objectives and its optimizer.

    Args:
        asked: model, size, arguments, objectives, relations (names), device ("fake" to count only), precision.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        torch.manual_seed(0)
        if asked["device"] == "cpu":
            _keep_freed_memory()
        self.fake = FakeTensorMode() if asked["device"] == "fake" else None
        self.device = torch.device("meta" if self.fake else asked["device"])
        with self.device if self.fake else contextlib.nullcontext():
            self._build(asked)
        if self.fake is not None:
            self.device = torch.device("cpu")
            _without_values(self.module, self.fake)

    def _build(self, asked: dict[str, Any]) -> None:
        from relpretrain.backbones import ALBEF, XVLM
        from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA, VSG
        from relpretrain.scene_graph import RelationVocabulary
        from relpretrain.training import RelationModule

        self.precision = {"fp32": None, "bf16": torch.bfloat16}[asked["precision"]]
        backbone = {"ALBEF": ALBEF, "XVLM": XVLM}[asked["model"]](size=asked["size"], **asked["arguments"])
        make = {"itc": ITC, "itm": ITM, "mlm": MLM, "vma": VMA, "box": BOX, "vsg": VSG}
        objectives = {name: make[name]() for name in asked["objectives"] if name in make}
        if "mrc" in asked["objectives"]:
            objectives["mrc"] = MRC(RelationVocabulary(asked["relations"]))
        self.module = RelationModule(backbone, objectives).to(self.device).train()
        self.optimizer = None if self.fake else torch.optim.AdamW(self.module.parameters(), lr=1e-4, fused=True)
        self.batches: dict[str, Any] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Take one step (or the optimizer's) and tell what it took."""
        if order["do"] == "optimize":
            assert self.optimizer is not None
            return measure(self.optimizer.step, self.device)
        path = order["batch"]
        if path not in self.batches:
            self.batches[path] = torch.load(path, weights_only=False)
        batch = self.module.on_before_batch_transfer(self.batches[path], 0)  # on the CPU: an older side has no such way
        if order["do"] == "count":
            return self._count(batch)
        batch = batch.to(self.device)
        if order["do"] == "profile":
            return self._profile(batch, Path(order["out"]))
        if order["do"] == "objectives":
            return self._objectives(batch)
        if order["do"] == "train":
            return measure(lambda: self._train(batch), self.device)
        if order["do"] == "live":
            from benchmarks.step_live import live_mb  # which an older side has not

            assert self.optimizer is not None
            return {"live_mb": live_mb(lambda: self._train(batch), self.module, self.optimizer)}
        if order["do"] == "flops":
            return {"gflop": gflop(lambda: self._train(batch))}
        return measure(lambda: self._step(batch), self.device)

    def _train(self, batch: Any) -> None:
        """A whole step, with the queue's turn and the optimizer's."""
        assert self.optimizer is not None
        self._step(batch)
        self.module.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()

    def _step(self, batch: Any) -> None:
        self.module.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.module.training_step(batch)
        loss.backward()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)

    def _objectives(self, batch: Any) -> dict[str, float]:
        """Seconds of each objective's forward pass, and of the image encoder, which they share.

        Of the process's CPU time; on a GPU, with a wait for it before every look at the clock.
        """
        cuda = self.device.type == "cuda"

        def clock() -> float:
            if cuda:
                torch.cuda.synchronize()
            return time.perf_counter() if cuda else time.process_time()

        seconds: Counter[str] = Counter()
        running: list[list[Any]] = []

        def enter(name: str) -> Any:
            return lambda *given: running.append([name, clock(), 0.0])

        def leave(*given: Any) -> None:
            name, begin, inner = running.pop()
            whole = clock() - begin
            seconds[name] += whole - inner
            if running:
                running[-1][2] += whole

        watched = {"image encoder": self.module.backbone.vision, **dict(self.module.objectives.items())}
        hooks = [module.register_forward_pre_hook(enter(name)) for name, module in watched.items()]
        hooks += [module.register_forward_hook(leave) for module in watched.values()]
        with torch.no_grad(), self._autocast():
            self.module.training_step(batch)
        for hook in hooks:
            hook.remove()
        return dict(seconds)

    def _count(self, batch: Any) -> dict[str, Any]:
        """FLOPs of a step's matrix products: of the forward pass by part, and of both passes together."""
        if self.fake is not None:
            batch = batch._map(self.fake.from_tensor)
        with self.fake or contextlib.nullcontext(), _PartCounter() as counter:
            loss = _Root(self.module)(batch)
            parts = dict(counter.parts)
            loss.backward()
        return {"forward": parts, "total": sum(counter.parts.values()), "bytes": counter.bytes}

    def _profile(self, batch: Any, out: Path) -> dict[str, Any]:
        self._step(batch)
        with torch.profiler.profile(record_shapes=True) as profile:
            self._step(batch)
        profile.export_chrome_trace(str(out))
        return {"table": profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)}


def _keep_freed_memory() -> None:
    """As `fit` does on a CPU; an older side has not the module."""
    with contextlib.suppress(ImportError):
        from relpretrain.allocator import keep_freed_memory

        keep_freed_memory()


def measure(act: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Seconds of the process's CPU time and of the clock that something takes, and the largest memory meanwhile."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        _forget_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    if cuda:
        torch.cuda.synchronize()
    took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _peak_mb()
    return took | {"peak_mb": peak}


def gflop(act: Callable[[], Any]) -> float:
    """10^9 FLOPs of the matrix products in what is done."""
    with _PartCounter() as counter:
        act()
    return float(sum(counter.parts.values()) / 1e9)


class _PartCounter(FlopCounterMode):
    """Counts FLOPs by part, and bytes.

    Attention's backward pass is four products on every device: what a fused kernel computes again is not counted.
    """

    def __init__(self) -> None:
        aten = torch.ops.aten
        names = [f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn")]
        names.append("_scaled_dot_product_flash_attention_for_cpu")
        forward = {getattr(aten, name): _attention_flops for name in names}
        backward = {getattr(aten, f"{name}_backward"): _attention_backward_flops for name in names}
        super().__init__(display=False, custom_mapping=forward | backward)
        self.parts: Counter[str] = Counter()
        self.bytes = 0  # read and written by all operations that compute something, if none were fused

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        own = {leaf.untyped_storage()._cdata for leaf in tensors}
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if any(leaf.untyped_storage()._cdata not in own for leaf in made):  # else a view
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in (*tensors, *made))
        if func_packet in self.flop_registry:
            number = self.flop_registry[func_packet](*args, **kwargs, out_val=out)
            inside = self.mod_tracker.parents
            part = next((part for part, pattern in _PARTS if any(re.search(pattern, name) for name in inside)), "heads")
            self.parts[part] += number
        return out


def _without_values(module: nn.Module, mode: FakeTensorMode) -> None:
    """Give parameters and buffers, which are on no device, to a CPU, still without values."""
    with mode:
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                values = torch.empty(parameter.shape, dtype=parameter.dtype)
                owner._parameters[name] = nn.Parameter(values, parameter.requires_grad)
            for name, buffer in owner.named_buffers(recurse=False):
                owner._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _Root(nn.Module):
    """The module as a child, so that the counter knows every part by its whole name."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Any) -> Any:
        return self.module.training_step(batch)


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    n, heads, queries, width = query
    return int(2 * n * heads * queries * key[2] * (width + value[3]))


def _attention_backward_flops(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return 2 * _attention_flops(query, key, value)


def _forget_peak() -> None:
    """Begin to count the process's largest memory anew, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    import resource

    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        found = None
    return int(found[1]) / 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
