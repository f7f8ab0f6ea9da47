"""What the zero-shot command does once its arguments are known to be good."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relpretrain.distributed import check_device, rank
from relpretrain.identity import folder_digest
from relpretrain.showing import say
from relpretrain.zeroshot.evaluate import Ready, annotated, evaluate, prepare, summarise
from relpretrain.zeroshot.look import leave_out_broken
from relpretrain.zeroshot.options import ALL, chosen_model
from relpretrain.zeroshot.out_folder import SOURCE, refuse_mixture, refuse_model_folder, refuse_other_model
from relpretrain.zeroshot.ranks import own_device
from relpretrain.zeroshot.report.terminal import Report, hash_items, refuse_other_data
from relpretrain.zeroshot.results.comparison import Comparison, compare
from relpretrain.zeroshot.results.further import further
from relpretrain.zeroshot.results.items import (
    ITEMS_NAME,
    ItemResult,
    Scored,
    disagreements,
    item_results,
    read_items,
)
from relpretrain.zeroshot.results.provenance import describe
from relpretrain.zeroshot.results.scores import (
    complete,
    find_split,
    homes_of_files,
    kept_names,
    models_of_files,
    read_scores,
    score_file_name,
    shared_files,
    split_of,
    task_of,
    tell_apart,
    write_scores,
)
from relpretrain.zeroshot.results.thresholds import Thresholded, choosers, with_threshold
from relpretrain.zeroshot.results.versions import UNCHECKED, refuse_other_version, version_of_source
from relpretrain.zeroshot.scorers.build import build_scorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import PairTask, UndecidedError
from relpretrain.zeroshot.tasks.common.grid import unnoticed
from relpretrain.zeroshot.tasks.common.images import ImageFinder
from relpretrain.zeroshot.tasks.retrieval.retrieval import Retrieval


def run(args: argparse.Namespace, command: list[str]) -> Report:
    """Score a model, or make tables or a comparison of stored scores.

    Args:
        args: Of `options.make_parser`.
        command: The command line, as a report tells it.

    Raises:
        ValueError: If something cannot be scored, read or compared.
    """
    if chosen_model(args):
        return _run_model(args, command)
    if ALL in (args.tasks or ()):
        args = argparse.Namespace(**(vars(args) | {"tasks": None}))  # whatever the files are of
    metadata = describe(command, args.seed)
    if args.compare:
        if args.out:
            refuse_model_folder(args.out, "a comparison")
        return Report(
            (), tuple(_compare(args, metadata)), {"models": " and ".join(tell_apart(*args.compare))} | metadata
        )
    scored = []
    for path in args.scores:
        part = _identify(args, read_scores(path), path)
        _decide(part, path)
        scored.append(replace(part, notes=(*part.notes, f"scores of {path.name}")))
        metadata[f"scores {path.name}"] = folder_digest(path)
        if part.items:
            metadata[f"data {part.task.name} {part.split}".strip()] = hash_items({part.split: part.items})
    named = [part.task.name for part in scored]
    models, homes = models_of_files(args.scores, named), homes_of_files(args.scores, named)
    sources = {model: "" if home is None else str(home) for model, home in zip(models, homes, strict=True)}
    scored = [replace(part, model=model) for part, model in zip(scored, models, strict=True)]
    read_from = {f"{SOURCE}{model}": home for model, home in sources.items() if home}
    metadata = {"model": ", ".join(sources)} | read_from | metadata
    names = kept_names([(path, part.task.name, part.split) for path, part in zip(args.scores, scored, strict=True)])
    if args.out:
        refuse_other_model(args.out, sources, args.scores)
        for name, part in zip(names, scored, strict=True):
            write_scores(args.out / "scores" / name, part.records)
    return _report(args, scored, metadata, names)


def _report(args: argparse.Namespace, scored: list[Scored], metadata: dict[str, Any], names: Sequence[str]) -> Report:
    """The report of scored splits, whose score files have these names in a report folder."""
    scored = with_threshold(scored, args.threshold)
    items = [result for part in scored for result in item_results(part)] if args.out else []
    protocols = dict.fromkeys(part.task.protocol.partition(":")[0] for part in scored)
    tables = summarise(scored)
    if args.further or args.beside_blind:
        for part, name in zip(scored, names, strict=True):
            table = further(part, None if args.beside_blind is None else _blind(args.beside_blind, part, name))
            tables += [] if table is None else [table]
    return Report(tuple(tables), (), metadata | {"protocols": ", ".join(protocols)}, tuple(items))


def _blind(folder: Path, part: Scored, name: str) -> list[Any]:
    """A blind model's lines on a split.

    Args:
        folder: The blind model's report folder.
        part: The split.
        name: What its score file is called in a report folder, which tells a split that is not known otherwise.

    Raises:
        ValueError: If there are none, or they are of other data.
    """
    task, usual = part.task.name, score_file_name(part.task.name, part.split)
    path = next((p for p in (folder / "scores" / usual, folder / "scores" / name) if p.is_file()), None)
    if path is None:
        there = sorted(other.name for other in (folder / "scores").glob(f"{task}.*.jsonl"))
        if not part.split and not part.items and there:
            raise ValueError(f"{folder} holds blind scores of {task} by split ({', '.join(there)}), and nothing says "
                             "of which split the model's scores are: give --data, whose annotations do.")  # fmt: skip
        raise ValueError(f"{folder} holds no blind scores of {f'{task} {part.split}'.strip()}: expected "
                         f"{folder / 'scores' / usual}, which --blind with --out makes.")  # fmt: skip
    blind = read_scores(path)
    refuse_other_version(part.task, ("the model", "the blind one"), part.records, blind)
    return blind


def _run_model(args: argparse.Namespace, command: list[str]) -> Report:
    device = own_device() if args.device is None else check_device(args.device)
    blind = bool(args.blind or args.constant or args.blank_image)
    source = Source(args.data, tuple(args.images), args.allow_missing, tuple(args.split), blind)
    skipped: dict[str, str] | None = {} if args.tasks and ALL in args.tasks else None
    wanted = list(TASKS) if skipped is not None else args.tasks or ["vsr", "valse"]
    ready, hashes = prepare(wanted, source, skipped)
    ready = _whole_images(ready, args.allow_missing, skipped)
    if not ready:
        there = {name: why for name, why in (skipped or {}).items() if "expects its annotations" not in why}
        reasons = "; ".join(f"{name}: {why}" for name, why in there.items())
        raise ValueError(f"{args.data} holds no task that can be scored; {reasons or '--list names them.'}")
    choosers(ready, args.threshold)
    if args.k_test:
        if not any(isinstance(part.task, Retrieval) for part in ready):
            names = ", ".join(dict.fromkeys(part.task.name for part in ready))
            raise ValueError(f"--k-test {args.k_test}: none of the tasks scored ({names}) is a retrieval task.")
        ready = [
            replace(r, task=r.task.with_k_test(args.k_test)) if isinstance(r.task, Retrieval) else r for r in ready
        ]
    scorer, described = build_scorer(args, device)
    model = str(args.checkpoint or args.model or described["scorer"])
    metadata = {"model": model} | describe(command, args.seed, device) | described | hashes
    if args.out:
        refuse_mixture(args.out, metadata, {score_file_name(part.task.name, part.split) for part in ready})
    scored = [replace(part, model=model) for part in evaluate(scorer, ready, args.out, skipped)]
    for name, reason in (skipped or {}).items():
        metadata[f"skipped {name}"] = reason
    if skipped and not rank():
        say("\n".join(f"skipped {name}: {reason}" for name, reason in skipped.items()), error=True)
    return _report(args, scored, metadata, [score_file_name(part.task.name, part.split) for part in scored])


def _whole_images(ready: list[Ready], allow: bool, skipped: dict[str, str] | None) -> list[Ready]:
    """The splits without images that cannot be decoded (`look.leave_out_broken`), a task at a time to skip one."""
    if skipped is None:
        return leave_out_broken(ready, allow)
    kept = []
    for part in ready:
        try:
            kept += leave_out_broken([part], allow)
        except ValueError as error:
            skipped[f"{part.task.name} {part.split}".strip()] = str(error)
    return kept


def _identify(args: argparse.Namespace, records: list[Any], path: Path) -> Scored:
    """Find out what a score file is of."""
    name = task_of(records, path)
    if args.tasks and name not in args.tasks:
        raise ValueError(f"{path} holds scores of {name}, not of {', '.join(args.tasks)}.")
    unchecked = Scored(TASKS[name], "", records, (UNCHECKED, *unnoticed(TASKS[name], records)))
    if args.data is None or not isinstance(TASKS[name], PairTask) or "label" not in records[0]:
        return unchecked
    source = Source(args.data, splits=tuple(args.split))
    splits = annotated(TASKS[name], source)
    split, notes = find_split(records, splits, path, args.allow_missing)
    version = version_of_source(TASKS[name], split, splits[split], source)
    return Scored(TASKS[name], split, complete(records, splits[split]), notes, splits[split], version)


def _decide(part: Scored, path: Path) -> None:
    """Decide all items once, so that a mistake is told with the file that has it.

    Raises:
        ValueError: Naming the file.
    """
    try:
        part.task.outcomes(part.records)
    except UndecidedError:
        return
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _compare(args: argparse.Namespace, metadata: dict[str, Any]) -> list[Comparison]:
    if isinstance(args.threshold, str):
        raise ValueError(f"--threshold {args.threshold} is for --checkpoint and --scores; --compare takes a number.")
    first, second = args.compare
    names = tell_apart(first, second)
    refuse_other_data(first, second, args.tasks)
    comparisons = []
    for a, b in shared_files(first, second):
        before, after = read_scores(a), read_scores(b)
        if a != first and args.tasks and task_of(before, a) not in args.tasks:
            continue
        part = _identify(args, before, a)
        if isinstance(part.task, Thresholded):
            (part,) = with_threshold([part], args.threshold)
        task, notes = part.task, part.notes
        if task_of(after, b) != task.name:
            raise ValueError(f"{a} holds scores of {task.name}, {b} of {task_of(after, b)}: nothing to compare.")
        split = part.split or (split_of(a, task.name) if a != first else "")
        refuse_other_version(task, names, before, after)
        comparison = compare(task, before, after, names, split, args.seed, args.allow_missing)
        one, two = (item_results(replace(part, split=split, records=records)) for records in (before, after))
        if not part.items:
            one, two = _with_texts(one, first), _with_texts(two, second)
        sample = disagreements(one, two, args.examples, args.seed)
        notes = (f"protocol {task.protocol}", *comparison.notes, *notes)
        comparisons.append(replace(comparison, notes=notes, disagreements=sample))
        for name, path in zip(names, (a, b), strict=True):
            metadata[f"scores {name} {path.name}" if path.stem != name else f"scores {path.name}"] = folder_digest(path)
    tasks = list(dict.fromkeys(comparison.task for comparison in comparisons))
    if tasks and args.threshold is not None and not any(isinstance(TASKS[n], Thresholded) for n in tasks):
        raise ValueError(f"--threshold {args.threshold}: none of the tasks compared ({', '.join(tasks)}) decides by "
                         "a threshold.")  # fmt: skip
    if not comparisons:
        raise ValueError(f"{first} and {second} have no scores of {', '.join(args.tasks)} in common: leave --tasks out "
                         "to compare what they have.")  # fmt: skip
    return comparisons


def _with_texts(results: list[ItemResult], folder: Path) -> list[ItemResult]:
    """Results with the texts that the table of items of a report folder has, if it is one."""
    table = folder / ITEMS_NAME
    known = {result.key: result for result in read_items(table)} if table.is_file() else {}
    shown = [known.get(result.key, result) for result in results]
    return [replace(there, right=result.right) for there, result in zip(shown, results, strict=True)]


def finder(args: argparse.Namespace) -> Callable[[str], Path | None]:
    """Looks for an item's image where it was scored, if that is in --data or --images, and where tasks keep theirs.

    The names stand in files of others: whatever leads elsewhere is looked for by its file name in these folders.
    """
    named = ImageFinder(args.images)
    allowed = [folder for folder in (*args.images, args.data) if folder is not None and folder.is_dir()]
    usual = [Source(args.data).finder(name) for name in TASKS] if args.data is not None else []

    def find(name: str) -> Path | None:
        scored = Path(os.path.abspath(name))
        if any(scored.is_relative_to(os.path.abspath(folder)) for folder in allowed) and scored.is_file():
            return scored
        # "1.jpg" at the path of its own benchmark, before another one's file of that name.
        finders = (named, *usual)
        there = (path for finder in finders if (path := finder.exact(name)) is not None)
        return next(there, None) or next((p for finder in finders if (p := finder.find(name)) is not None), None)

    return find
