"""Attach, train, score: the ALBEF diff of docs/existing_codebases.md on the official script; no test, for it needs it.

    python -m tests.adapters.check_diff --code ALBEF --processes 1     (or 2; --code is a clone of salesforce/ALBEF)

Applies the page's diff to `Pretrain.py` in memory, starts it with torchrun on a generated world (new weights, small
numbers, gloo on the CPU), and scores the checkpoint that it writes with `benchmarks/zero_shot.py`. What today's
packages, and a machine without GPUs, do not have is replaced first, as in `check_official`.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import torch
import torch.distributed as dist
import yaml

from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.synthetic import generate
from tests.adapters import check_official

HOME = Path(__file__).parents[2]
PAGE = HOME / "docs" / "existing_codebases.md"
SIZE, PAIRS = 64, 64  # pixels; the host's own images with captions


def patched(source):
    """The script with the page's diff applied, whose every hunk has one place in it."""
    (diff, *_) = re.findall(r"```diff\n(.*?)```", PAGE.read_text().split("\n## ALBEF\n")[1], re.DOTALL)
    lines = [line.rstrip() for line in source.splitlines()]
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        rows = hunk.splitlines()
        old = [row[1:].rstrip() for row in rows if not row.startswith("+")]
        new = [row[1:].rstrip() for row in rows if not row.startswith("-")]
        places = [i for i in range(len(lines)) if lines[i : i + len(old)] == old]
        assert len(places) == 1, f"{len(places)} places for the hunk that begins with {old[0]!r}"
        lines[places[0] : places[0] + len(old)] = new
    return "\n".join(lines) + "\n"


def create_dataset(name, config):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(3, SIZE, SIZE, generator=generator), f"a picture of thing {i % 9}") for i in range(PAIRS)]


def create_sampler(datasets, shuffles, tasks, rank):
    return [torch.utils.data.DistributedSampler(datasets[0], tasks, rank, shuffles[0])]


def create_loader(datasets, samplers, batch_size, **options):
    return [torch.utils.data.DataLoader(datasets[0], batch_size[0], sampler=samplers[0], drop_last=True)]


def stand_ins():
    check_official.older_transformers()
    check_official.stub("ruamel_yaml", **vars(yaml))
    check_official.stub("dataset", **{f.__name__: f for f in (create_dataset, create_sampler, create_loader)})
    tokenizer = types.SimpleNamespace(from_pretrained=load_tokenizer)
    sys.modules["models.tokenization_bert"] = types.SimpleNamespace(BertTokenizer=tokenizer)
    torch.cuda.set_device = lambda device: None
    begin, wrap = dist.init_process_group, torch.nn.parallel.DistributedDataParallel
    dist.init_process_group = lambda backend, **given: begin("gloo", **given)
    torch.nn.parallel.DistributedDataParallel = lambda model, device_ids: wrap(model)


def train(code, out):
    """One process of the official script."""
    sys.path.insert(0, str(code))
    os.chdir(code)
    stand_ins()
    import utils
    from models import model_pretrain, xbert

    utils.SmoothedValue.synchronize_between_processes = lambda self: None  # means over processes, made on a GPU
    check_official.new_weights(xbert.BertForMaskedLM)
    check_official.smaller(model_pretrain)
    script = types.ModuleType("Pretrain")
    exec(compile(patched(Path("Pretrain.py").read_text()), "Pretrain.py", "exec"), vars(script))
    script.ALBEF = lambda **given: model_pretrain.ALBEF(**given | {"init_deit": False})
    script.args = types.SimpleNamespace(checkpoint="", resume=False, output_dir=str(out), device="cpu", seed=42)
    vars(script.args).update(text_encoder=str(out / "world" / "tokenizer"), world_size=1, dist_url="env://")
    script.main(script.args, yaml.safe_load((out / "pretrain.yaml").read_text()))
    dist.destroy_process_group()


def prepare(code, out):
    """Write a world, and the configuration of a small model on it."""
    made = {"images_captions": 8, "images_regions": 8, "images_validation": 16, "items_vsr": 40, "items_valse": 4}
    world = generate(out / "world", images_graphs=64, image_size=SIZE, **made)
    config = yaml.safe_load((code / "configs" / "Pretrain.yaml").read_text())
    config |= {"image_res": SIZE, "vision_width": check_official.WIDTH, "queue_size": 16, "batch_size": 8}
    config |= {"graphs": str(world / "graphs"), "relations": str(world / "relations.json"), "graph_batch_size": 8}
    os.chdir(code)
    config["bert_config"] = check_official.bert(out, len(load_tokenizer(world / "tokenizer")))
    config["optimizer"]["lr"] = 3e-4  # a text in the file, by PyYAML's reading
    config["schedular"] |= {"epochs": 1, "lr": 3e-4, "min_lr": 1e-5, "warmup_lr": 3e-4}
    (out / "pretrain.yaml").write_text(yaml.safe_dump(config))
    return world


def run(*command):
    print("$", *command, flush=True)
    subprocess.run([sys.executable, *map(str, command)], check=True, cwd=HOME)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", required=True, type=Path, help="clone of salesforce/ALBEF")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # a process of torchrun, and its folder
    arguments = parser.parse_args()
    code = arguments.code.resolve()
    if arguments.worker:
        train(code, arguments.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        world = prepare(code, out)
        torchrun = ("-m", "torch.distributed.run", f"--nproc_per_node={arguments.processes}", "--master_port=29517")
        run(*torchrun, "-m", "tests.adapters.check_diff", "--code", code, "--worker", out)
        print((out / "log.txt").read_text(), end="")
        score = ("benchmarks/zero_shot.py", "--checkpoint", out / "checkpoint_00.pth", "--tasks", "vsr", "valse")
        score += ("--tokenizer", world / "tokenizer", "--relations", world / "relations.json")
        run(*score, "--data", world / "benchmarks", "--out", out / "scores")
        print(*(line for line in (out / "scores" / "zero_shot.md").read_text().splitlines() if "loaded" in line))


if __name__ == "__main__":
    main()
