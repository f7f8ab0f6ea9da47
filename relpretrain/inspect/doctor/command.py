"""`relpretrain data doctor`: examines datasets, prints what was found, and says whether it may be trained on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.find import named_manifests, resolve_shards, tell_copies
from relpretrain.data.shards.verify import faults
from relpretrain.data.shards.writer import write_atomically
from relpretrain.errors import ConfigError
from relpretrain.inspect.common.share import Share, begin_share, end_share, is_task
from relpretrain.inspect.common.survey import SHARDS, shards_named
from relpretrain.inspect.doctor.counts import LONG_CAPTION
from relpretrain.inspect.doctor.examination import Examination, plain_schedule
from relpretrain.inspect.doctor.judge import Judge, examine, plain_judges, recipe_judges
from relpretrain.inspect.doctor.report import Terms, print_examination, serving, to_json
from relpretrain.scene_graph.vocabulary import DEFAULT_VOCABULARY, RelationVocabulary
from relpretrain.showing import say

if TYPE_CHECKING:
    from relpretrain.inspect.common.recipe_data import RecipeData

MAX_BAD = 0.05
"""Share of samples that may be bad where no recipe says it."""

_IMAGE_SIZE = 224


def doctor(args: argparse.Namespace) -> int:
    """Run `relpretrain data doctor`: 1 if more samples are bad than allowed or the recipe cannot run, else 0."""
    shards = resolve_shards(args.shards) if args.shards else []
    if args.config is None and not shards:
        raise ConfigError("name shards, or a recipe with -c")
    recipe = None if args.config is None else _read(args.config, shards)
    size = _IMAGE_SIZE if recipe is None else recipe.module.image_size
    allowed = args.max_bad
    if allowed is None:
        allowed = MAX_BAD if recipe is None else recipe.module.max_bad_fraction

    given = None if args.vocabulary is None else RelationVocabulary.load(args.vocabulary)
    datasets = {SHARDS: shards} if recipe is None else _datasets(recipe)
    every = [shard for of_name in datasets.values() for shard in of_name]
    tell_copies(every)
    share = begin_share(args, every, [args.out])
    found = _examine(datasets, recipe, args.workers, share)
    if is_task(share):
        end_share(share)
        return 0
    problems = _name_vocabularies(found, recipe, args.vocabulary, given)
    patterns = args.shards if recipe is None or shards else [p for s in recipe.streams.values() for p in _patterns(s)]
    whole = {shard: index for of in found for shard, index in zip(of.shards, of.indexes, strict=True)}
    problems += faults(list(whole), list(whole.values()), named_manifests(patterns), args.workers)
    if recipe is not None and shards:  # they need not serve all of the recipe's streams
        recipe.keep({name for f in found for name, count in f.eligible.items() if count})
    problems += [] if recipe is None else recipe.set_up()
    schedule = plain_schedule(found[0]) if recipe is None else recipe.module.schedule
    state: dict[str, Any] = {"datasets": {f.name: to_json(f, schedule, size) for f in found}}
    lines: list[str] = []
    if recipe is not None and schedule is not None:
        steps = recipe.max_steps if args.steps is None else args.steps
        own = recipe.module.num_workers if args.num_workers is None else args.num_workers
        lines, unserved = serving(schedule, args.ranks, own, steps)
        problems += unserved
        state["training"] = lines
    worst = max(found, key=lambda f: f.bad_fraction)
    bad = worst.bad_fraction > allowed
    state |= {"problems": problems, "allowed_bad_fraction": allowed, "ok": not (bad or problems)}
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, (json.dumps(state, ensure_ascii=False, indent=1) + "\n").encode())
    titles = {f.name: shards_named(args.shards) if f.name == SHARDS and shards else f.name for f in found}
    for f in found:
        print_examination(f, schedule, Terms(titles[f.name], size, _longest(recipe, f.name), recipe is not None))
    if lines:
        say("\nTraining\n  " + "\n  ".join(lines))
    for problem in problems:
        say(f"  PROBLEM: {problem}")
    sign = "more than" if bad else "within"
    say(f"\nBad samples: {worst.bad_fraction:.2%} in {titles[worst.name]}, {sign} the {allowed:.2%} allowed.")
    if args.out is not None:
        print(f"All findings in {args.out}")
    end_share(share)
    return int(bad or bool(problems))


def _read(path: Path, shards: list[str]) -> RecipeData:
    from relpretrain.inspect.common.recipe_data import read_data  # imports lightning, which takes seconds

    return read_data(path, shards)


def _patterns(stream: Stream) -> list[str]:
    """What a stream names as its shards."""
    return [p for named in stream.datasets.values() for p in ([named] if isinstance(named, str) else named)]


def _datasets(recipe: RecipeData) -> dict[str, list[str]]:
    """The shards of each dataset of a recipe."""
    datasets: dict[str, list[str]] = {}
    for stream in recipe.streams.values():
        for name, patterns in stream.datasets.items():
            of_name = datasets.setdefault(name, [])
            of_name += [shard for shard in resolve_shards(patterns) if shard not in of_name]
    return datasets


def _examine(
    datasets: dict[str, list[str]], recipe: RecipeData | None, workers: int, share: Share | None
) -> list[Examination]:
    """Each dataset, by the streams that draw from it."""
    if recipe is None:
        return [examine(SHARDS, datasets[SHARDS], plain_judges(_IMAGE_SIZE), workers=workers, share=share)]
    encoders = recipe.encoders()
    size, fraction = recipe.module.image_size, recipe.module.mask_fraction
    judges = recipe_judges(recipe.streams, size, encoders, fraction, recipe.exclusion())
    found = []
    first = 0
    for name, of_name in datasets.items():
        own: dict[str, Judge] = {n: judges[n] for n, s in recipe.streams.items() if name in s.datasets and n in judges}
        captions = [encoders[n] for n, judge in own.items() if judge.kind == "captions"]
        long: Callable[[str], bool] | None = Longer(captions[0]) if captions else None
        own_share = None if share is None else share._replace(first=first)
        found.append(examine(name, of_name, own, long_caption=long, workers=workers, share=own_share))
        first += len(of_name)
    return found


def _longest(recipe: RecipeData | None, dataset: str) -> str:
    """When a caption is too long: for the first stream of captions that draws from a dataset, where there is one."""
    streams = () if recipe is None else recipe.streams.values()
    limits = (s.max_tokens for s in streams if s.kind == "captions" and dataset in s.datasets)
    limit = next(limits, None)
    return f"over {LONG_CAPTION} words" if limit is None else f"over {limit} tokens, where training cuts them"


def _name_vocabularies(
    found: list[Examination], recipe: RecipeData | None, name: str | None, given: RelationVocabulary | None
) -> list[str]:
    """Say which vocabulary MRC has on each dataset; returns why one cannot be read, a line each."""
    problems: list[str] = []
    if given is None and recipe is None:
        name, given = DEFAULT_VOCABULARY, RelationVocabulary.load(DEFAULT_VOCABULARY)
    for examination in found:
        if given is not None:
            examination.vocabulary, examination.vocabulary_name = given, f"MRC's vocabulary {name}"
            continue
        assert recipe is not None
        streams = {n for n, s in recipe.streams.items() if examination.name in (*s.datasets, SHARDS)}
        try:
            examination.vocabulary = recipe.vocabulary(streams)
        except ValueError as error:
            if str(error) not in problems:
                problems.append(str(error))
    return problems


@dataclass
class Longer:
    """Whether a caption has more tokens than a stream allows."""

    encoder: TextEncoder

    def __call__(self, caption: str) -> bool:
        """Tokenise it."""
        return self.encoder.triplet_length(caption) + self.encoder.separator > self.encoder.max_tokens
