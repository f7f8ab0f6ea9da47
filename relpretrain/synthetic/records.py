"""What the shards of the generated world say of its scenes, truly or, where asked for, with noise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from relpretrain.errors import wrong_fraction
from relpretrain.scene_graph import Relation
from relpretrain.synthetic import wording
from relpretrain.synthetic.hold_out import prefer
from relpretrain.synthetic.relations import foils
from relpretrain.synthetic.world import Scene, World


@dataclass(frozen=True)
class Annotator:
    """Writes the JSON of samples.

    Args:
        world: Where the scenes are from.
        relational_captions: Fraction of the captions that mention a relation.
        counting_captions: Fraction of the captions that tell the number of objects.
        caption_noise: Fraction of the captions that are another scene's.
        label_noise: Fraction of the annotated relations that are replaced by a false one of the same two objects.
        relational_sentences: Fraction of the captions that mention a relation which do so in a sentence, not a phrase.
        omitted_relations: Fraction of the relations that the graph leaves out; it keeps at least one.
    """

    world: World
    relational_captions: float
    counting_captions: float
    caption_noise: float
    label_noise: float
    relational_sentences: float = 0.5
    omitted_relations: float = 0.0

    def __post_init__(self) -> None:
        for name, fraction in vars(self).items():
            if name != "world" and (problem := wrong_fraction(name, fraction)):
                raise ValueError(problem)
        if self.relational_captions + self.counting_captions > 1:
            raise ValueError(
                f"relational_captions is {self.relational_captions} and counting_captions {self.counting_captions}: "
                "more than all."
            )
        fewest, most = self.world.numbers
        if self.counting_captions and fewest == most:
            raise ValueError(
                f"counting_captions is {self.counting_captions}, but every scene has {most} objects. Set it to 0, or "
                "give objects a smallest and a largest number."
            )
        if fewest < most >= len(wording.NUMBERS):
            raise ValueError(f"objects is up to {most}, but numbers end at {wording.NUMBERS[-1]}. Lower objects.")

    def clean(self) -> Annotator:
        """The same without noise."""
        return replace(self, caption_noise=0.0, label_noise=0.0, omitted_relations=0.0)

    def record(
        self, image_id: str, scene: Scene, split: str, rng: np.random.Generator
    ) -> tuple[dict[str, Any], Counter[str]]:
        """The JSON of a sample with what its split is about, and how many of its statements are of which sort.

        Args:
            image_id: Identity of the image.
            scene: What is in it.
            split: "captions", "regions", "graphs" or "validation", which has all.
            rng: Where choices are drawn from.
        """
        height, width, _ = scene.pixels.shape
        record: dict[str, Any] = {"image_id": image_id, "source": "synthetic", "width": width, "height": height}
        told: Counter[str] = Counter()
        if split in ("captions", "validation"):
            text, sort = self._caption(scene, rng)
            told[sort] += 1
            if self.caption_noise and rng.random() < self.caption_noise:
                text, _ = self._caption(self._another(scene, rng), rng)
                told["captions of another scene"] += 1
            record["captions"] = [text]
        if split != "captions":
            record["entities"] = scene.graph.to_json()["entities"]
        if split in ("graphs", "validation"):
            graph = scene.graph
            if self.omitted_relations:
                told["omitted relations"] += len(graph.relations)
                graph = replace(graph, relations=self._some(graph.relations, rng))
                told["omitted relations"] -= len(graph.relations)
            if self.label_noise:
                graph = replace(graph, relations=tuple(self._noisy(scene, r, rng, told) for r in graph.relations))
            told["relations"] += len(graph.relations)
            record["relations"] = graph.to_json()["relations"]
        return record, told

    def _caption(self, scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
        """A caption and its sort."""
        choice, kind = rng.random(), rng.random()
        if kind < self.relational_captions:
            relation = scene.truths[int(rng.integers(len(scene.truths)))]
            say = wording.phrase if choice < 1 - self.relational_sentences else wording.sentence
            subject, object = scene.labels_of(relation)
            return say(subject, relation.relation, object), "relational captions"
        if kind < self.relational_captions + self.counting_captions:
            return wording.count(len(scene.labels), self.world.shapes), "counting captions"
        return wording.plain_caption(scene.labels), "plain captions"

    def _another(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """A scene of other things."""
        while set((other := self.world.scene(rng)).labels) == set(scene.labels):
            pass
        return other

    def _some(self, relations: tuple[Relation, ...], rng: np.random.Generator) -> tuple[Relation, ...]:
        """Those that are not omitted; any one where chance omits all."""
        kept = rng.random(len(relations)) >= self.omitted_relations
        kept[rng.integers(len(relations))] |= not kept.any()
        return tuple(relation for relation, keep in zip(relations, kept.tolist(), strict=True) if keep)

    def _noisy(self, scene: Scene, relation: Relation, rng: np.random.Generator, told: Counter[str]) -> Relation:
        """The relation or, by chance, a false one; none that is held out, if there is another."""
        if rng.random() >= self.label_noise:
            return relation
        told["false relations"] += 1
        subject, object = scene.labels_of(relation)
        false = foils(relation.relation, self.world.relations)
        false = list(prefer(false, lambda name: not self.world.held_out.forbids(subject, name, object)))
        return replace(relation, relation=false[int(rng.integers(len(false)))])
