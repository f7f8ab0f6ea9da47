"""From shards to a file of conversations with their images."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from relpretrain.data.build.jobs import ordered_map
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import naming
from relpretrain.dialogues.catalogue import Catalogue, Place, read_catalogue
from relpretrain.dialogues.conversation import Format, Group, conversation
from relpretrain.dialogues.scene import EXHAUSTIVE, Scene, read_scene
from relpretrain.dialogues.semantic import semantic_turns
from relpretrain.dialogues.single import single_turns
from relpretrain.dialogues.temporal import temporal_turns
from relpretrain.dialogues.views import geometric_turns, make_view, render
from relpretrain.dialogues.wording import Turn
from relpretrain.pixels import BROKEN

Kind = Literal["semantic", "geometric", "temporal", "single"]
KINDS: tuple[Kind, ...] = ("semantic", "geometric", "temporal", "single")
_LONGEST_KEY = 80  # characters of a key in the name of a file
_TRIES = 8  # pairs that are tried for each that is wanted


@dataclass(frozen=True)
class Settings:
    """What conversations are made.

    Args:
        kinds: What they are about.
        pairs: Conversations of each kind.
        seed: Of all random choices.
        turns: Questions in a conversation, at most.
        shots: Questions of the same form about other images that come before one; 0 for none.
        form: One of `conversation.FORMATS`.
        frames: Finds `video` and `frame` in the names of samples that do not tell them themselves.
        exhaustive: Sources that annotate everything that an image shows.
    """

    kinds: tuple[Kind, ...] = KINDS[:3]
    pairs: int = 1000
    seed: int = 0
    turns: int = 4
    shots: int = 0
    form: Format = "llava"
    frames: re.Pattern[str] | None = None
    exhaustive: tuple[str, ...] = EXHAUSTIVE


class Made(NamedTuple):
    """A conversation and the images that it names."""

    content: dict[str, Any]
    images: dict[str, bytes]


class _Wanted(NamedTuple):
    """A conversation to be made: what it is about, its number, and the samples to try, one after the other."""

    kind: Kind
    number: int
    tries: list[tuple[Place, ...]]


def make_dialogues(shards: Sequence[str], out: Path, settings: Settings, workers: int = 1) -> Counter[str]:
    """Write conversations, and their images into a folder beside the file.

    Equal shards and settings give equal bytes, whatever the number of processes.

    Args:
        shards: The shards.
        out: The file; its images go to a folder of its name with "_images".
        settings: What is made.
        workers: Processes.

    Returns:
        How many conversations there are of each kind, and questions of each form, as "kind/form".

    Raises:
        ValueError: If the shards have nothing that could be spoken of.
        OSError: If something cannot be read or written.
    """
    catalogue = read_catalogue(shards, settings.frames, settings.exhaustive, workers)
    _check(catalogue, settings)
    folder = out.with_name(f"{out.stem}_images")
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(make_one, settings, folder.name)
    counts: Counter[str] = Counter()
    written: set[str] = set()
    part = out.with_name(f".{out.name}.part")
    with naming(out), part.open("w", encoding="utf-8") as file:
        for made in ordered_map(work, _wanted(catalogue, settings), workers):
            if made is None:
                counts["pairs without a question"] += 1
                continue
            for name, content in made.images.items():
                if name not in written:
                    (out.parent / name).write_bytes(content)
                    written.add(name)
            file.write(",\n" if counts["conversations"] else "[\n")
            json.dump(made.content, file, ensure_ascii=False)
            counts["conversations"] += 1
            counts[made.content["kind"]] += 1
            counts.update(f"{made.content['kind']}/{form}" for form in made.content["forms"])
        file.write("\n]\n" if counts["conversations"] else "[]\n")
    os.replace(part, out)
    return counts


def _check(catalogue: Catalogue, settings: Settings) -> None:
    lacking = {
        "semantic": ("things with names", catalogue.named),
        "geometric": ("a thing with a box and a name of its own", catalogue.boxed),
        "temporal": ("two frames of one video (entries video and frame, or --frames)", catalogue.films),
        "single": ("relations", catalogue.related),
    }
    if problems := [f"{kind} dialogues need {lacking[kind][0]}" for kind in settings.kinds if not lacking[kind][1]]:
        raise ValueError(f"{'; '.join(problems)}: no sample of the shards has any, leave these --kinds out")


def _wanted(catalogue: Catalogue, settings: Settings) -> Iterator[_Wanted]:
    for kind in settings.kinds:
        for number in range(settings.pairs):
            rng = np.random.default_rng([settings.seed, KINDS.index(kind), number])
            groups = (_group(catalogue, kind, rng) for _ in range(_TRIES * (settings.shots + 1)))
            tries = [tuple(map(catalogue.place, group)) for group in groups if group]
            yield _Wanted(kind, number, tries)


def _group(catalogue: Catalogue, kind: Kind, rng: np.random.Generator) -> tuple[int, ...]:
    """Samples for a conversation, by number; none where chance brings none."""
    if kind == "temporal":
        frames = catalogue.videos[catalogue.films[int(rng.integers(len(catalogue.films)))]]
        one, other = (frames[place] for place in rng.permutation(len(frames))[:2].tolist())
        return (one[1], other[1]) if one[0] != other[0] else ()
    samples = {"semantic": catalogue.named, "geometric": catalogue.boxed, "single": catalogue.related}[kind]
    number = samples[int(rng.integers(len(samples)))]
    if kind != "semantic":
        return (number,)
    partner = catalogue.partner(number, rng)
    return () if partner is None else (number, partner)


def make_one(settings: Settings, folder: str, wanted: _Wanted) -> Made | None:
    """One conversation, of the first samples that give enough questions; None if none do."""
    rng = np.random.default_rng([settings.seed, KINDS.index(wanted.kind), wanted.number, 1])
    by_form: dict[str, list[tuple[Group, dict[str, bytes]]]] = {}
    name = f"{wanted.kind}-{wanted.number:06d}"
    for number, places in enumerate(wanted.tries):
        found = [(place, _read(place, settings)) for place in places]
        whole = {f"{folder}/{_file_name(place, scene)}": scene for place, scene in found if scene is not None}
        try:
            turns, images, view = _turns(wanted.kind, whole, f"{folder}/{name}-{number}", rng)
        except BROKEN:
            continue
        if turns and not settings.shots:
            group = Group(tuple(images), tuple(turns[: settings.turns]), view)
            return Made(conversation(name, wanted.kind, [group], settings.form), images)
        for turn in turns:
            alike = by_form.setdefault(turn.form, [])
            if all(known.images != tuple(images) for known, _ in alike):
                alike.append((Group(tuple(images), (turn,), view), images))
            if len(alike) > settings.shots:
                together = {file: content for _, own in alike for file, content in own.items()}
                groups = [known for known, _ in alike]
                return Made(conversation(name, wanted.kind, groups, settings.form), together)
    return None


def _read(place: Place, settings: Settings) -> Scene | None:
    return read_scene(ShardIndex.of(place.shard), place.row, settings.frames, settings.exhaustive)


def _turns(
    kind: Kind, named: dict[str, Scene], view_name: str, rng: np.random.Generator
) -> tuple[list[Turn], dict[str, bytes], dict[str, Any] | None]:
    """Questions about some images, the images by the names of their files, and how a second view was made."""
    images, scenes = {file: scene.image for file, scene in named.items()}, list(named.values())
    if len(scenes) < (2 if kind in ("semantic", "temporal") else 1):
        return [], {}, None
    if kind == "semantic":
        return semantic_turns(scenes[0], scenes[1], rng), images, None
    if kind == "temporal":
        return temporal_turns(scenes[0], scenes[1], rng), images, None
    if kind == "single":
        return single_turns(scenes[0], rng), images, None
    view, pixels, extension = make_view(scenes[0], rng), scenes[0].pixels(), scenes[0].file.extension
    seen = render(pixels, view, extension)
    if view.transform == "mirror" and render(pixels, view._replace(transform="crop"), extension) == seen:
        return [], {}, None  # its own mirror image
    images[f"{view_name}.{'png' if extension == 'png' else 'jpg'}"] = seen
    return geometric_turns(scenes[0], view, rng), images, {"transform": view.transform, "part": list(view.part)}


def _file_name(place: Place, scene: Scene) -> str:
    """Of the image of a scene: its place makes it unique, and its key is for people."""
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", scene.key)[-_LONGEST_KEY:]
    return f"{place.number:05d}-{place.row:06d}_{key}.{scene.file.extension}"
