"""The generated world: what can be in a scene, where it stands, and what is true of it."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from relpretrain.data.synthetic.render import COLORS, SHAPES, draw_scene
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph

RELATIONS = ("left of", "right of", "above", "below")
INVERSES = {"left of": "right of", "above": "below"}
_INVERSE = INVERSES | {inverse: name for name, inverse in INVERSES.items()}

DOMINANCE = 2.0
"""How many times further apart two centres must be along a relation's axis than across it."""
MARGIN = 0.2
"""How far apart two centres must be at least, as a share of the image's side."""

SIDES = (0.25, 0.42)
"""Smallest and largest side of one of two objects, as shares of the image's side; more objects are smaller."""


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Args:
        pixels: The image, (size, size, 3), uint8.
        graph: All objects, and the relations that are annotated.
        truths: Every relation of the world that is clearly true of two objects, in both directions.
    """

    pixels: np.ndarray
    graph: SceneGraph
    truths: tuple[Relation, ...]

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
        objects: Objects in a scene.
        shapes: Which shapes there are, of `render.SHAPES`.
        colors: Which colours there are, of `render.COLORS`. Each shape in each colour is a kind, such as "red square".
        relations: Which relations are annotated, of `RELATIONS`.
        noise: Largest deviation of a background pixel, of 255.
        mutual: Whether "a left of b" and "b right of a" are both annotated. If not, one of them is, always the same for
            the same things standing the same way: equal scenes then have equal graphs, and their texts are no false
            negatives of each other.

    Raises:
        ValueError: If a name is unknown, there are too few kinds, or the images are too small for the objects.
    """

    image_size: int = 32
    objects: int = 2
    shapes: tuple[str, ...] = ("square",)
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "cyan")
    relations: tuple[str, ...] = RELATIONS
    noise: int = 6
    mutual: bool = False

    def __post_init__(self) -> None:
        _check_names("shape", self.shapes, SHAPES)
        _check_names("color", self.colors, COLORS)
        _check_names("relation", self.relations, RELATIONS)
        if self.objects < 2:
            raise ValueError(f"objects is {self.objects}, but a relation needs 2.")
        if len(self.kinds) <= self.objects:
            raise ValueError(
                f"{len(self.shapes)} shapes in {len(self.colors)} colors are {len(self.kinds)} kinds, but "
                f"{self.objects} different objects and a foil need {self.objects + 1}. Name more shapes or colors."
            )
        if self.image_size * SIDES[0] * self._shrink < 4:
            raise ValueError(
                f"image_size is {self.image_size}: too small for {self.objects} objects of at least 4 pixels."
            )

    @property
    def kinds(self) -> list[str]:
        """Everything that can be in a scene."""
        return [f"{color} {shape}" for color, shape in itertools.product(self.colors, self.shapes)]

    def scene(self, rng: np.random.Generator) -> Scene:
        """Draw a scene in which at least one relation is true."""
        kinds = self.kinds
        labels = [kinds[i] for i in rng.permutation(len(kinds))[: self.objects]]
        for boxes in self._layouts(rng):
            truths = tuple(
                Relation(i, name, j)
                for i, j in itertools.permutations(range(self.objects), 2)
                if (name := true_relation(boxes[i], boxes[j], self.image_size)) in self.relations
            )
            if truths:
                break
        annotated = truths if self.mutual else tuple(r for r in truths if self._annotated(r, labels))
        graph = SceneGraph(tuple(map(Entity, labels, boxes)), annotated)
        return Scene(draw_scene(labels, boxes, self.image_size, self.noise, rng), graph, truths)

    def _annotated(self, relation: Relation, labels: Sequence[str]) -> bool:
        """Whether this one of two mutual relations is annotated, by a coin that the scene's content flips."""
        subject, object = labels[relation.subject], labels[relation.object]
        inverse = _INVERSE[relation.relation]
        if inverse not in self.relations:
            return True
        pair = sorted([f"{subject} {relation.relation} {object}", f"{object} {inverse} {subject}"])
        coin = crc32(" | ".join(pair).encode()) >> 7 & 1
        return pair[coin] == f"{subject} {relation.relation} {object}"

    @property
    def _shrink(self) -> float:
        return math.sqrt(2 / self.objects)

    def _layouts(self, rng: np.random.Generator) -> Iterator[list[Box]]:
        """Boxes in whole pixels, at least one pixel apart: one layout after the other, without end."""
        low, high = (round(share * self._shrink * self.image_size) for share in SIDES)
        while True:
            sides = rng.integers(low, high + 1, (16, self.objects, 1))
            corners = rng.integers(0, self.image_size + 1 - sides, (16, self.objects, 2))
            ends = corners + sides
            # (tries, objects, objects): True where two boxes, one of them grown by a pixel, overlap
            overlap = ((corners[:, :, None] <= ends[:, None]) & (corners[:, None] <= ends[:, :, None])).all(-1)
            apart = overlap.sum((1, 2)) == self.objects
            for values in np.concatenate([corners, ends], 2)[apart].astype(float).tolist():
                yield [Box(*value) for value in values]


def true_relation(subject: Box, object: Box, image_size: int) -> str | None:
    """The relation that is clearly true of two boxes, None where none is.

    Left and right need centres that are `DOMINANCE` times further apart horizontally than vertically, and at least
    `MARGIN` of the image; above and below likewise. Where one of the four is clearly true, the other three are false.
    """
    dx, dy = object.center[0] - subject.center[0], object.center[1] - subject.center[1]
    margin = MARGIN * image_size
    if abs(dx) >= max(DOMINANCE * abs(dy), margin):
        return "left of" if dx > 0 else "right of"
    if abs(dy) >= max(DOMINANCE * abs(dx), margin):
        return "above" if dy > 0 else "below"
    return None


def _check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"There is no {what} {name!r}; expected some of {', '.join(known)}.{hint}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"The {what}s must be named, each once; got {list(names)}.")
