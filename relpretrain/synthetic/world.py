"""The generated world: what can be in a scene, where it stands, and what is true of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np

from relpretrain.errors import suggest
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.synthetic.hold_out import NOTHING, Combination, HeldOut, canonical
from relpretrain.synthetic.layout import NEVER_BY_CHANCE, Wanted, layouts
from relpretrain.synthetic.relations import (
    CONTRADICTS,
    INVERSE,
    RELATIONS,
    can_be,
    true_relation,
    true_relations,
)
from relpretrain.synthetic.render import COLORS, SHAPES, SIZES, TEXTURES, draw_scene, parse_label

ARRANGED = 0.8
"""Fraction of the scenes in which two objects are arranged so that a relation drawn by chance is true of them.

Only in worlds with more than the four relations; else some would hardly come."""

_TRIES = 400
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
    """Scenes of coloured shapes on a grey ground, no two of the same kind.

    Args:
        image_size: Side of the square images in pixels.
        objects: Objects in a scene: a number, or the smallest and the largest, between which it is drawn.
        shapes: Which shapes there are, of `render.SHAPES`.
        colors: Which colours there are, of `render.COLORS`. Each shape in each colour is a kind, such as "red square".
        relations: Which relations are annotated, of `relations.INVERSE`.
        noise: Largest deviation of a background pixel, of 255.
        mutual: Whether "a left of b" and "b right of a" are both annotated. If not, one of them is, always the same for
            the same things standing the same way: equal scenes then have equal graphs, and their texts are no false
            negatives of each other.
        held_out: What no scene shows that is not about it.
        sizes: Sizes, of `render.SIZES`. Where there are several, they are part of a kind: "small red square".
        textures: Textures, of `render.TEXTURES`, likewise.
        clutter: Number of small marks on the ground that no text names.
        occlusion: Largest fraction of an object that another one, of another colour, may hide.

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
    sizes: tuple[str, ...] = ("any",)
    textures: tuple[str, ...] = ("plain",)
    clutter: int = 0
    occlusion: float = 0.0

    def __post_init__(self) -> None:
        _check_names("shape", self.shapes, SHAPES)
        _check_names("color", self.colors, COLORS)
        _check_names("relation", self.relations, INVERSE)
        _check_names("size", self.sizes, SIZES)
        _check_names("texture", self.textures, TEXTURES)
        if "any" in self.sizes and len(self.sizes) > 1:
            raise ValueError(f"The size 'any' stands alone, but the sizes are {', '.join(self.sizes)}.")
        self._check_relations()
        if self.clutter < 0 or not 0 <= self.occlusion <= 0.5:
            raise ValueError(
                f"clutter is {self.clutter} and occlusion {self.occlusion}, but marks are 0 or more, and at most 0.5 "
                "of an object may be hidden."
            )
        fewest, most = self.numbers
        if not 2 <= fewest <= most:
            raise ValueError(f"objects is {self.objects}, but a relation needs 2, and the largest number comes last.")
        if len(self.kinds) <= most:
            raise ValueError(
                f"{len(self.shapes)} shapes in {len(self.colors)} colors are {len(self.kinds)} kinds, but "
                f"{most} different objects and a foil need {most + 1}. Name more shapes or colors."
            )
        if np.min(self._sides(self.kinds)[0]) < 4:
            raise ValueError(f"image_size is {self.image_size}: too small for {most} objects of at least 4 pixels.")

    @property
    def numbers(self) -> tuple[int, int]:
        """Smallest and largest number of objects in a scene."""
        return (self.objects, self.objects) if isinstance(self.objects, int) else self.objects

    @cached_property
    def kinds(self) -> list[str]:
        """Everything that can be in a scene."""
        sizes = self.sizes if len(self.sizes) > 1 else ()
        textures = self.textures if len(self.textures) > 1 else ()
        named = (words for words in (sizes, textures, self.colors, self.shapes) if words)
        return [" ".join(words) for words in itertools.product(*named)]

    @cached_property
    def _extended(self) -> bool:
        """Whether several relations may hold of two things, and some have to be arranged."""
        return not set(self.relations) <= set(RELATIONS)

    @cached_property
    def _to_arrange(self) -> tuple[str, ...]:
        """The relations, each as often as it is others' foil: far is the only foil of both near and touching."""
        both = {"near", "far from", "touching"} <= set(self.relations)
        return (*self.relations, "far from") if both else self.relations

    def things(self, rng: np.random.Generator) -> list[str]:
        """Draw what a scene can show.

        Raises:
            ValueError: If so much is held out that nothing is found.
        """
        for _ in range(_TRIES):
            if labels := self._labels(rng, ()):
                return labels
        raise ValueError(self._not_found)

    def scene(self, rng: np.random.Generator, about: Collection[Combination] = (), things: Sequence[str] = ()) -> Scene:
        """Draw a scene in which at least one relation is true.

        Args:
            rng: Where it is drawn from.
            about: Compositions of the same two kinds, one of which is to be true; they are the scene's topics.
            things: What it shows, of `things`; drawn too if there are none.

        Raises:
            ValueError: If so much is held out that no scene is found.
        """
        own = {kind for subject, _, object in about for kind in (subject, object)}
        name = None
        if self._extended and about:
            about = [sorted(about)[int(rng.integers(len(about)))]]
        elif self._extended and (rng.random() < ARRANGED or set(self.relations) <= set(NEVER_BY_CHANCE)):
            name = self._to_arrange[int(rng.integers(len(self._to_arrange)))]
        for _ in range(_TRIES):
            labels = [things[i] for i in rng.permutation(len(things))] if things else self._labels(rng, own)
            topics = about
            if labels and name is not None:
                subject, object = (labels[i] for i in rng.permutation(len(labels))[:2])
                topics = [canonical(subject, name, object)]
                if self.held_out.status(subject, name, object) != "seen":
                    continue
            if labels and (scene := self.arranged(labels, rng, topics, own)):
                return scene
        raise ValueError(self._not_found)

    @property
    def _not_found(self) -> str:
        return (
            f"No scene of {self.objects} objects was found that does without what is held out. Lower hold_out_pairs, "
            "hold_out_combinations or objects."
        )

    def arranged(
        self,
        labels: Sequence[str],
        rng: np.random.Generator,
        topics: Collection[Combination] = (),
        exempt: Collection[str] = (),
    ) -> Scene | None:
        """Draw a scene of given things; None if chance brings none.

        Args:
            labels: The things.
            rng: Where the scene is drawn from.
            topics: Compositions, one of which is to be true; then they are the scene's topics.
            exempt: Two things that may stand as they otherwise never do.
        """
        wanted = self._wanted(labels, topics)
        if wanted and not can_be(labels[wanted[0]], wanted[1], labels[wanted[2]]):
            return None
        sides = self._sides(labels)
        found = layouts(labels, sides, self.image_size, self._shrink, self.occlusion, wanted, rng)
        forbidden = self._forbidden(labels, exempt)
        for boxes in itertools.islice(found, _TRIES):
            if any(names.intersection(self._relations(boxes[i], boxes[j])) for (i, j), names in forbidden.items()):
                continue
            truths = self._truths(boxes)
            combinations = [canonical(labels[r.subject], r.relation, labels[r.object]) for r in truths]
            if any(c in topics or not topics for c in combinations):
                break
        else:
            return None
        asked = tuple(r for r, c in zip(truths, combinations, strict=True) if c in topics) if topics else truths
        return self._drawn(labels, boxes, truths, asked, rng)

    def mirrored(self, scene: Scene, rng: np.random.Generator) -> Scene | None:
        """Draw a scene with its left and right exchanged, its top and bottom, or both: no relation of sides stays true.

        Two things are mirrored in the direction in which they lie further apart. In the other one they stay as they
        are, so that a text that goes from top to bottom names things side by side in the same order: only its words
        are others. More things are mirrored in both directions, for some of them lie apart in either.

        Args:
            scene: A scene of this world, about nothing in particular.
            rng: What draws the pixels.

        Returns:
            The other scene; None if it would show what is held out.
        """
        boxes = [entity.box for entity in scene.graph.entities if entity.box is not None]  # all of them have one
        size = self.image_size
        one, other = (boxes[i].center for i in rng.permutation(len(boxes))[:2])
        sideways = abs(one[0] - other[0]) > abs(one[1] - other[1])
        if sideways or len(boxes) > 2:
            boxes = [box.flip(size) for box in boxes]
        if not sideways or len(boxes) > 2:
            boxes = [Box(box.x_min, size - box.y_max, box.x_max, size - box.y_min) for box in boxes]
        truths = self._truths(boxes)
        if any(self.held_out.forbids(scene.labels[r.subject], r.relation, scene.labels[r.object]) for r in truths):
            return None
        return self._drawn(scene.labels, boxes, truths, truths, rng)

    def _drawn(
        self,
        labels: Sequence[str],
        boxes: Sequence[Box],
        truths: tuple[Relation, ...],
        topics: tuple[Relation, ...],
        rng: np.random.Generator,
    ) -> Scene:
        annotated = truths if self.mutual else tuple(r for r in truths if self._annotated(r, labels))
        graph = SceneGraph(tuple(map(Entity, labels, boxes)), annotated)
        pixels = draw_scene(labels, boxes, self.image_size, self.noise, rng, self.clutter)
        return Scene(pixels, graph, truths, topics)

    def _forbidden(self, labels: Sequence[str], exempt: Collection[str]) -> dict[tuple[int, int], set[str]]:
        """Relations that must not be true, by indices of the two things that they are of, the lower one first."""
        found = {}
        for (i, one), (j, other) in itertools.combinations(enumerate(labels), 2) if self.held_out.combinations else ():
            names = {name for name in INVERSE if self.held_out.forbids(one, name, other)}
            if names and {one, other} != exempt:
                found[i, j] = names
        return found

    def _wanted(self, labels: Sequence[str], topics: Collection[Combination]) -> Wanted | None:
        """The only topic as a layout has it, if it may need help to come true."""
        if not self._extended or len(topics) != 1:
            return None
        ((subject, name, object),) = topics
        return labels.index(subject), name, labels.index(object)

    def _truths(self, boxes: Sequence[Box]) -> tuple[Relation, ...]:
        """Every relation of the world that is clearly true."""
        return tuple(
            Relation(i, name, j)
            for i, j in itertools.permutations(range(len(boxes)), 2)
            for name in self._relations(boxes[i], boxes[j])
            if name in self.relations
        )

    def _relations(self, subject: Box, object: Box) -> Sequence[str]:
        """All that is clearly true of two boxes, of this world's relations and others."""
        if self._extended:
            return true_relations(subject, object, self.image_size)
        name = true_relation(subject, object, self.image_size)
        return () if name is None else (name,)

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

    def _sides(self, labels: Sequence[str]) -> tuple[np.ndarray | int, np.ndarray | int]:
        """Smallest and largest side in pixels, of all of them or of each, (objects, 1)."""
        scale = self._shrink * self.image_size
        if len(self.sizes) == 1:
            smallest, largest = SIZES[self.sizes[0]]
            return round(smallest * scale), round(largest * scale)
        shares = np.array([SIZES[parse_label(label).size] for label in labels])
        low, high = np.rint(shares * scale).astype(int).T[:, :, None]
        return low, high

    def _check_relations(self) -> None:
        """Refuse relations that have no foil, or that the words of labels decide."""
        if len(self.relations) < 2:
            raise ValueError(f"The only relation is {self.relations[0]!r}, but a foil needs another one.")
        for name in self.relations:
            if not set(CONTRADICTS[name]) & set(self.relations):
                raise ValueError(
                    f"The relation {name!r} contradicts none of the others, but a foil needs one. Add one of "
                    f"{', '.join(CONTRADICTS[name])}."
                )
        told = [name for name in ("bigger than", "smaller than", "inside", "around") if name in self.relations]
        if len(self.sizes) > 1 and told:
            raise ValueError(
                f"With the sizes {', '.join(self.sizes)} labels tell whether {told[0]!r} is true. Name one size, or "
                "leave it out of relations."
            )
        inside = {"inside", "around"} & set(self.relations)
        if inside and not {"square", "circle"} & set(self.shapes):
            raise ValueError(f"{min(inside)!r} needs squares or circles, but the shapes are {', '.join(self.shapes)}.")


def _check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"There is no {what} {name!r}{suggest(name, known)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"The {what}s must be named, each once; got {list(names)}.")
