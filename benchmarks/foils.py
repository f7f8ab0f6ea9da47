"""How many graphs yield a foil of each kind, and whether one of them is true.

    python benchmarks/foils.py --data ../shared/realdata --scenes 10000

Graphs are VRD's test annotations, whose foils are held against the annotations, and scenes of the generated world, of
which everything that is clearly true is known.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from relpretrain.reading import read_json
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph, triplet_text
from relpretrain.scene_graph.foils import GRAPH_KINDS, NOUNS, Witness, triplet_foils
from relpretrain.synthetic.relations import INVERSE
from relpretrain.synthetic.world import World

Known = tuple[SceneGraph, set[str], Sequence[str]]
"""A graph, all texts that are true of its image, and names for foils."""


def vrd(folder: Path) -> Iterable[Known]:
    """The graphs of VRD's test set (`annotations_test.json`, boxes as [y_min, y_max, x_min, x_max])."""
    names, relations = (read_json(folder / f"{name}.json", "names") for name in ("objects", "predicates"))
    for triplets in read_json(folder / "annotations_test.json", "annotations").values():
        entities: dict[tuple[int, ...], int] = {}
        found = []
        for triplet in triplets:
            ends = []
            for end in ("subject", "object"):
                top, bottom, left, right = triplet[end]["bbox"]
                key = (triplet[end]["category"], left, top, right, bottom)
                ends.append(entities.setdefault(key, len(entities)))
            if ends[0] != ends[1]:
                found.append(Relation(ends[0], relations[triplet["predicate"]], ends[1]))
        if found:
            things = tuple(Entity(names[key[0]], Box(*map(float, key[1:]))) for key in entities)
            graph = SceneGraph(things, tuple(found))
            yield graph, {triplet_text(graph, relation) for relation in found}, names


def scenes(count: int, seed: int = 0) -> Iterable[Known]:
    """Scenes of two to five things and thirteen relations."""
    world = World(image_size=64, objects=(2, 5), shapes=("square", "circle", "triangle"), relations=tuple(INVERSE))
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene = world.scene(rng)
        true = {f"{s} {r.relation} {o}" for r in scene.truths for s, o in [scene.labels_of(r)]}
        yield scene.graph, true, world.kinds


def count_foils(graphs: Iterable[Known], seed: int = 0) -> tuple[int, Counter[str], int, int]:
    """Number of graphs, of those that yield each kind, of foils, and of foils among what is true."""
    rng = np.random.default_rng(seed)
    yields: Counter[str] = Counter()
    number = made = wrong = 0
    for graph, true, names in graphs:
        number += 1
        witness, have = Witness(graph), set[str]()
        for relation in graph.relations:
            found = triplet_foils(graph, relation, rng=rng, names=names or NOUNS, witness=witness)
            have |= found.keys()
            made += len(found)
            wrong += sum(foil.text in true for foil in found.values())
        yields.update(have)
    return number, yields, made, wrong


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with vrd/; without it only generated scenes are counted")
    parser.add_argument("--scenes", type=int, default=10_000, help="generated scenes")
    options = parser.parse_args(arguments)
    sources: dict[str, Iterable[Known]] = {"generated scenes": scenes(options.scenes)}
    if options.data is not None:
        if not (options.data / "vrd" / "annotations_test.json").is_file():
            raise SystemExit(f"{options.data} holds no vrd/annotations_test.json: give a folder with VRD's annotations")
        sources["VRD test graphs"] = vrd(options.data / "vrd")
    for title, graphs in sources.items():
        number, yields, made, wrong = count_foils(graphs)
        print(f"{title}: {number} graphs, {made} foils, {wrong} of them true")
        for kind in GRAPH_KINDS:
            print(f"  {kind:<14}{yields[kind] / max(1, number):>8.1%}")


if __name__ == "__main__":
    main()
