"""Graphs as FACTUAL writes them: "( cat , is , black ) , ( cat , lie on , sofa )"."""

from __future__ import annotations

import re

from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation

_FACT = re.compile(r"\(([^()]*)\)?")
_INDEX = re.compile(r"\s*:\s*\d+$")
_VOICE = re.compile(r"^p?v\s*:\s*")


def read_graph_text(text: str) -> ParsedCaption:
    """Read a graph, of an annotation or of a model's output; what is no fact is left out.

    A fact is a thing alone, or (subject, relation, object); the relation "is" makes the object an attribute. Of the
    models with indices, "monkey:1" is another thing than "monkey"; their marks of verbs, "v:" and for the passive
    "pv:", are left out (Li et al., 2023, arXiv 2305.17497).
    """
    labels: dict[str, str] = {}
    attributes: dict[str, list[str]] = {}
    triplets: dict[tuple[str, str, str], None] = {}

    def thing(name: str) -> str:
        labels.setdefault(name, _INDEX.sub("", name).strip() or name)
        attributes.setdefault(name, [])
        return name

    for match in _FACT.finditer(text.lower()):
        parts = [" ".join(part.split()) for part in match.group(1).split(",")]
        parts = [part for part in parts if part]
        if len(parts) == 1 and len(match.group(0)) > len(match.group(1)) + 1:
            thing(parts[0])
        elif len(parts) == 2 or (len(parts) == 3 and parts[1] == "is"):
            if parts[-1] not in attributes[thing(parts[0])]:
                attributes[parts[0]].append(parts[-1])
        elif len(parts) >= 3:
            subject, relation, object_ = parts[0], " ".join(parts[1:-1]), parts[-1]
            triplets[thing(subject), _VOICE.sub("", relation), thing(object_)] = None
    order = {name: i for i, name in enumerate(labels)}
    return ParsedCaption(
        tuple(ParsedEntity(label, None, tuple(attributes[name])) for name, label in labels.items()),
        tuple(ParsedRelation(order[s], relation, order[o]) for s, relation, o in triplets),
    )
