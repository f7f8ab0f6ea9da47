"""`relpretrain data show`: samples as training sees them, as a page to look at."""

from __future__ import annotations

import argparse
import inspect
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.errors import counted, natural, positive
from relpretrain.recipe_files import check_recipe, find_recipe

if TYPE_CHECKING:
    from relpretrain.data.shards.row_index import ShardIndex
    from relpretrain.inspect.show.samples import Lens

_IMAGE_SIZE = 224
_PATCH = 16
_MAX_TOKENS = {"captions": 40, "regions": 40, "graphs": 112}


def add_subcommands(commands: Any) -> None:
    """Add `show` to what `add_subparsers` returned."""
    show = commands.add_parser("show", help="write a page with samples before and after augmentation")
    show.add_argument("shards", nargs="*", metavar="SHARDS", help="tar files, folders, globs, patterns or addresses")
    show.add_argument("-c", "--config", "--recipe", type=Path, metavar="RECIPE", help="show what its streams make")
    show.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page")
    show.add_argument("--n", type=positive, default=12, help="samples, drawn at random (default: %(default)s)")
    show.add_argument("--draws", type=positive, default=3, help="how often each is drawn (default: %(default)s)")
    show.add_argument("--seed", type=natural, default=0, help="of all random choices (default: %(default)s)")
    show.add_argument("--tokenizer", help="name or folder (default: the recipe's, or one beside the shards)")
    show.add_argument(
        "--vocabulary", metavar="NAME",
        help="relations that MRC knows, a file or a bundled name (default: the recipe's, else all are shown)",
    )  # fmt: skip
    show.add_argument("--image-size", type=positive, help=f"(default: the recipe's, else {_IMAGE_SIZE})")
    show.add_argument("--patch-size", type=positive, help=f"(default: the recipe's, else {_PATCH})")
    show.set_defaults(run_data=show_samples)


def show_samples(args: argparse.Namespace) -> None:
    """Run `relpretrain data show`.

    Raises:
        ValueError: If there is nothing to show, or a setting does not fit.
    """
    from relpretrain.data.shards.find import resolve_shards, tell_copies

    given = resolve_shards(args.shards) if args.shards else []
    if not given and args.config is None:
        raise ValueError("name shards, or a recipe with -c")
    if args.config is not None:
        check_recipe(find_recipe(args.config))

    from relpretrain.data.shards.writer import write_atomically
    from relpretrain.inspect.common.survey import SHARDS, find_indexes, shards_named
    from relpretrain.inspect.show.page import render  # loads torch
    from relpretrain.inspect.show.samples import look

    recipe = None
    if args.config is not None:
        from relpretrain.inspect.common.recipe_data import read_data  # imports lightning, which takes seconds

        recipe = read_data(args.config, given)
    notes: list[str] = []
    datasets: dict[str, list[str]] = {SHARDS: given} if given else {}
    if recipe is not None and not given:
        for stream in recipe.streams.values():
            for name, patterns in stream.datasets.items():
                known = datasets.setdefault(name, [])
                known += [shard for shard in resolve_shards(patterns) if shard not in known]
    tell_copies([shard for shards in datasets.values() for shard in shards])
    indexes = {name: find_indexes(shards) for name, shards in datasets.items()}
    lenses = _lenses(args, recipe, indexes, notes)
    chosen = list(_choose(indexes, lenses, args.n, args.seed))
    if not chosen:
        raise ValueError("the shards hold no sample with captions, entities or relations: nothing to show")
    shown = [
        look(dataset, index, row, {n: lenses[n] for n in names}, args.draws, args.seed)
        for dataset, index, row, names in chosen
    ]
    first = next(iter(lenses.values()))
    drawn = f"{counted(len(shown), 'sample')}, drawn at random with seed {args.seed}"
    notes.insert(0, f"{drawn}; each stream draws them {counted(args.draws, 'time')}. Images are {first.image_size} × "
                 f"{first.image_size} pixels after augmentation.")  # fmt: skip
    title = "Samples of " + (shards_named(args.shards) if given else str(args.config))
    title += f", as {args.config} draws them" if given and recipe is not None else ""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, render(shown, lenses, title, notes).encode())
    print(f"{counted(len(shown), 'sample')} in {args.out}")


def _choose(
    indexes: Mapping[str, list[ShardIndex]], lenses: Mapping[str, Lens], number: int, seed: int
) -> Iterator[tuple[str, ShardIndex, int, list[str]]]:
    """Random samples, taken from the streams in turn, each with the streams that can draw it."""
    import numpy as np

    rng = np.random.default_rng(seed)
    decks: list[list[tuple[str, int, int]]] = []
    for lens in lenses.values():
        cards = [
            (name, shard, row)
            for name, found in indexes.items()
            if name in lens.stream.datasets
            for shard, index in enumerate(found)
            for row in index.eligible(lens.stream.need).tolist()
            if lens.draws(index, row)
        ]
        decks.append([cards[i] for i in rng.permutation(len(cards))[: number * len(lenses)].tolist()])
    taken: set[tuple[str, int, int]] = set()
    while len(taken) < number and any(decks):
        for deck in decks:
            while deck and deck[0] in taken:
                deck.pop(0)
            if deck and len(taken) < number:
                card = deck.pop(0)
                taken.add(card)
                name, shard, row = card
                index = indexes[name][shard]
                able = [
                    n
                    for n, lens in lenses.items()
                    if name in lens.stream.datasets
                    and row in index.eligible(lens.stream.need)
                    and lens.draws(index, row)
                ]
                yield name, index, row, able


def _lenses(
    args: argparse.Namespace, recipe: Any, indexes: Mapping[str, list[ShardIndex]], notes: list[str]
) -> dict[str, Lens]:
    from relpretrain.data.pipeline.collate import BATCH_TYPES
    from relpretrain.data.pipeline.text import TextEncoder
    from relpretrain.data.pipeline.tokenizer import load_tokenizer
    from relpretrain.data.sampling.stream import Stream
    from relpretrain.inspect.show.samples import Lens
    from relpretrain.scene_graph import RelationVocabulary

    size = args.image_size or (recipe.module.image_size if recipe is not None else _IMAGE_SIZE)
    grid = _grid(args, recipe, size)
    given = None if args.vocabulary is None else RelationVocabulary.load(args.vocabulary)
    if recipe is not None:
        encoders = recipe.encoders(None if args.tokenizer is None else load_tokenizer(args.tokenizer))
        exclusion, fraction = recipe.exclusion(), recipe.module.mask_fraction
        vocabularies = {name: given if given is not None else recipe.vocabulary([name]) for name in recipe.streams}
        return {
            name: Lens(stream, encoders[name], size, grid, fraction, vocabularies[name], exclusion)
            for name, stream in recipe.streams.items()
        }
    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer is not None else _nearby_tokenizer(indexes, notes)
    streams = {kind: Stream(kind, dict.fromkeys(indexes, ""), 1, max_tokens=_MAX_TOKENS[kind]) for kind in BATCH_TYPES}
    return {
        name: Lens(stream, TextEncoder(tokenizer, stream.max_tokens), size, grid, vocabulary=given)
        for name, stream in streams.items()
    }


def _nearby_tokenizer(indexes: Mapping[str, list[ShardIndex]], notes: list[str]) -> Any:
    """The tokenizer beside the shards, as the generated world has it, or one of the first samples' own words."""
    from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece

    shards = [index for found in indexes.values() for index in found]
    for folder in dict.fromkeys(parent / "tokenizer" for index in shards for parent in index.path.parents[:2]):
        if folder.is_dir():
            return load_tokenizer(folder)
    notes.append("Texts are split by a vocabulary of the samples' own words: name the model's with --tokenizer.")
    texts = [_words(index, row) for index in shards[:8] for row in range(min(len(index), 200))]
    with tempfile.TemporaryDirectory() as temporary:
        return load_tokenizer(write_wordpiece(texts, temporary))


def _words(index: ShardIndex, row: int) -> str:
    """All words of a sample's annotations."""
    raw = index.read(row)
    text = ((raw.json or b"") + b" " + (raw.txt or b"")).decode(errors="replace")
    return "".join(character if character.isalpha() else " " for character in text)


def _grid(args: argparse.Namespace, recipe: Any, size: int) -> tuple[int, int]:
    """Rows and columns of the model's patches."""
    stride = args.patch_size
    if stride is None and recipe is not None:
        stride = _stride(recipe.content.get("model"))
    if stride is None:
        stride = _PATCH if size >= 2 * _PATCH else 1
    if size % stride:
        raise ValueError(f"image size {size} is not a multiple of the patch size {stride}: set --patch-size")
    return size // stride, size // stride


def _stride(model: Any) -> int | None:
    """Pixels that a patch of a recipe's backbone is wide, without building it; None if the recipe does not say."""
    from relpretrain import backbones
    from relpretrain.backbones.presets import from_preset

    backbone = model.get("backbone") if isinstance(model, dict) else None
    if not isinstance(backbone, dict):
        return None
    cls = getattr(backbones, str(backbone.get("class_path")).rpartition(".")[2], None)
    if not isinstance(cls, type):
        return None
    known = inspect.signature(from_preset).parameters
    defaults = {n: p.default for n, p in inspect.signature(cls).parameters.items() if p.default is not p.empty}
    given = {n: v for n, v in (defaults | dict(backbone.get("init_args") or {})).items() if n in known}
    return from_preset(**given).stride
