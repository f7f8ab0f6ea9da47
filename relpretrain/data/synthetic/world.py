"""The generated world: what can be in a scene, where it stands, and what is true of it."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np

from relpretrain.data.synthetic.hold_out import NOTHING, Combination, HeldOut, canonical
from relpretrain.data.synthetic.relations import INVERSE, RELATIONS, true_relation
from relpretrain.data.synthetic.render import COLORS, SHAPES, draw_scene
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph

SIDES = (0.25, 0.42)
"""Smallest and largest side of one of two objects, as shares of the image's side; more objects are smaller."""

_TRIES = 500
"""Layouts of the same things, and choices of things, after which a scene is given up."""


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Args:
        pixels: The image, (size, size, 3), uint8.
        graph: All objects, and the relations that are annotated.
        truths: Every relation of the world that is clearly true of two objects, in both directions.
        topics: Those of them that questions about the scene are about: all, unless it was drawn for some.
    """

    pixels: np.ndarray
    graph: SceneGraph
    truths: tuple[Relation, ...]
    topics: tuple[Relation, ...]

    @property
    def labels(self) -> list[str]:
        """What is in the scene; each kind comes once."""
        return [entity.label for entity in self.graph.entities]

    def labels_of(self, relation: Relation) -> tuple[str, str]:
        """Subject and object of one of its relations."""
        return self.labels[relation.subject], self.labels[relation.object]


@dataclass(frozen=True)
class World:
    """Scenes of coloured shapes on a grey ground, no two of the same kind and none overlapping.

    Args:
        image_size: Side of the square images in pixels.
        objects: Objects in a scene: a number, or the smallest and the largest, between which it is drawn.
        shapes: Which shapes there are, of `render.SHAPES`.
        colors: Which colours there are, of `render.COLORS`. Each shape in each colour is a kind, such as "red square".
        relations: Which relations are annotated, of `RELATIONS`.
        noise: Largest deviation of a background pixel, of 255.
        mutual: Whether "a left of b" and "b right of a" are both annotated. If not, one of them is, always the same for
            the same things standing the same way: equal scenes then have equal graphs, and their texts are no false
            negatives of each other.
        held_out: What no scene shows that is not about it.

    Raises:
        ValueError: If a name is unknown, there are too few kinds, or the images are too small for the objects.
    """

    image_size: int = 32
    objects: int | tuple[int, int] = 2
    shapes: tuple[str, ...] = ("square",)
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "cyan")
    relations: tuple[str, ...] = RELATIONS
    noise: int = 6
    mutual: bool = False
    held_out: HeldOut = NOTHING

    def __post_init__(self) -> None:
        _check_names("shape", self.shapes, SHAPES)
        _check_names("color", self.colors, COLORS)
        _check_names("relation", self.relations, RELATIONS)
        fewest, most = self.numbers
        if not 2 <= fewest <= most:
            raise ValueError(f"objects is {self.objects}, but a relation needs 2, and the largest number comes last.")
        if len(self.kinds) <= most:
            raise ValueError(
                f"{len(self.shapes)} shapes in {len(self.colors)} colors are {len(self.kinds)} kinds, but "
                f"{most} different objects and a foil need {most + 1}. Name more shapes or colors."
            )
        if self.image_size * SIDES[0] * self._shrink < 4:
            raise ValueError(f"image_size is {self.image_size}: too small for {most} objects of at least 4 pixels.")

    @property
    def numbers(self) -> tuple[int, int]:
        """Smallest and largest number of objects in a scene."""
        return (self.objects, self.objects) if isinstance(self.objects, int) else self.objects

    @cached_property
    def kinds(self) -> list[str]:
        """Everything that can be in a scene."""
        return [f"{color} {shape}" for color, shape in itertools.product(self.colors, self.shapes)]

    def scene(self, rng: np.random.Generator, about: Collection[Combination] = ()) -> Scene:
        """Draw a scene in which at least one relation is true.

        Args:
            rng: Where it is drawn from.
            about: Compositions of the same two kinds, one of which is to be true; they are the scene's topics.

        Raises:
            ValueError: If so much is held out that no scene is found.
        """

        def accept(found: Sequence[Combination]) -> bool:
            return any(c in about or not about for c in found) and not any(
                c not in about and self.held_out.forbids(*c) for c in found
            )

        for _ in range(_TRIES):
            labels = self._labels(rng, {kind for subject, _, object in about for kind in (subject, object)})
            if labels and (scene := self.arranged(labels, accept, rng, about)):
                return scene
        raise ValueError(
            f"No scene of {self.objects} objects was found that does without what is held out. Lower hold_out_pairs, "
            "hold_out_combinations or objects."
        )

    def arranged(
        self,
        labels: Sequence[str],
        accept: Callable[[Sequence[Combination]], bool],
        rng: np.random.Generator,
        about: Collection[Combination] = (),
    ) -> Scene | None:
        """Draw a scene of given things, where what is true of them is accepted; None if chance brings none.

        Args:
            labels: The things.
            accept: Told all that is true of them, each once.
            rng: Where the scene is drawn from.
            about: The scene's topics; none for all that is true.
        """
        for boxes in itertools.islice(self._layouts(len(labels), rng), _TRIES):
            truths = tuple(
                Relation(i, name, j)
                for i, j in itertools.permutations(range(len(labels)), 2)
                if (name := true_relation(boxes[i], boxes[j], self.image_size)) in self.relations
            )
            combinations = [canonical(labels[r.subject], r.relation, labels[r.object]) for r in truths]
            if truths and accept(combinations):
                break
        else:
            return None
        annotated = truths if self.mutual else tuple(r for r in truths if self._annotated(r, labels))
        graph = SceneGraph(tuple(map(Entity, labels, boxes)), annotated)
        topics = tuple(r for r, c in zip(truths, combinations, strict=True) if c in about) if about else truths
        return Scene(draw_scene(labels, boxes, self.image_size, self.noise, rng), graph, truths, topics)

    def _labels(self, rng: np.random.Generator, wanted: Collection[str]) -> list[str]:
        """Different kinds, with the wanted ones, of which no others are held apart; none if chance brings none."""
        fewest, most = self.numbers
        number = fewest if fewest == most else int(rng.integers(fewest, most + 1))
        labels: list[str] = sorted(wanted)
        for i in rng.permutation(len(self.kinds)).tolist():
            kind = self.kinds[i]
            if len(labels) < number and kind not in labels and not any(self.held_out.parts(kind, k) for k in labels):
                labels.append(kind)
        if len(labels) < number:
            return []
        return [labels[i] for i in rng.permutation(number)] if wanted else labels

    def _annotated(self, relation: Relation, labels: Sequence[str]) -> bool:
        """Whether this one of two mutual relations is annotated, by a coin that the scene's content flips."""
        subject, object = labels[relation.subject], labels[relation.object]
        inverse = INVERSE[relation.relation]
        if inverse not in self.relations:
            return True
        pair = sorted([f"{subject} {relation.relation} {object}", f"{object} {inverse} {subject}"])
        coin = crc32(" | ".join(pair).encode()) >> 7 & 1
        return pair[coin] == f"{subject} {relation.relation} {object}"

    @property
    def _shrink(self) -> float:
        """Objects of a world are of the same sizes however many there are, so that their size does not tell that."""
        return math.sqrt(2 / self.numbers[1])

    def _layouts(self, number: int, rng: np.random.Generator) -> Iterator[list[Box]]:
        """Boxes in whole pixels, at least one pixel apart: one layout after the other, without end."""
        low, high = (round(share * self._shrink * self.image_size) for share in SIDES)
        while True:
            sides = rng.integers(low, high + 1, (16, number, 1))
            corners = rng.integers(0, self.image_size + 1 - sides, (16, number, 2))
            ends = corners + sides
            # (tries, objects, objects): True where two boxes, one of them grown by a pixel, overlap
            overlap = ((corners[:, :, None] <= ends[:, None]) & (corners[:, None] <= ends[:, :, None])).all(-1)
            apart = overlap.sum((1, 2)) == number
            for values in np.concatenate([corners, ends], 2)[apart].astype(float).tolist():
                yield [Box(*value) for value in values]


def _check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"There is no {what} {name!r}; expected some of {', '.join(known)}.{hint}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"The {what}s must be named, each once; got {list(names)}.")
