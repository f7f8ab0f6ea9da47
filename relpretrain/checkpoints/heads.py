"""Relation heads in checkpoints of models of other codebases."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from relpretrain.objectives.base import Objective
from relpretrain.objectives.relation import MRC
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.scene_graph.vocabulary import BUNDLED
from relpretrain.types import Backbone


def stored_heads(
    state: Mapping[str, Tensor], backbone: Backbone, vocabulary: RelationVocabulary | None = None
) -> tuple[dict[str, Objective], list[str]]:
    """Rebuild MRC from its stored head, if its vocabulary is known.

    The file has no relation names, only the vocabulary's fingerprint, which is compared with the given vocabulary's or
    with those of the bundled ones.

    Args:
        state: Weights of relation objectives, by "<objective>.<weight>".
        backbone: The backbone to attach MRC to.
        vocabulary: Vocabulary of the run that wrote the file; None to try the bundled ones.

    Returns:
        The objectives that could be rebuilt, by name, and a line about each one in the file.

    Raises:
        ValueError: If a vocabulary is given and the file has no relation head, or one of other relations or sizes.
    """
    stored = {key.removeprefix("mrc."): value for key, value in state.items() if key.startswith("mrc.")}
    others = sorted({key.partition(".")[0] for key in state} - {"mrc"})
    notes = [f"relation_objectives.{name}: left aside, an objective of another codebase" for name in others]
    if "fingerprint" not in stored or "head.0.weight" not in stored:
        if vocabulary is not None:
            raise ValueError("a relation vocabulary was given, but the file has no relation head (MRC)")
        return {}, notes
    fingerprint = bytes(stored["fingerprint"].tolist()).hex()
    known = [RelationVocabulary.load(path.stem) for path in sorted(BUNDLED.glob("*.json"))]
    candidates = known if vocabulary is None else [vocabulary]
    relations = next((each for each in candidates if each.fingerprint == fingerprint), None)
    count = len(stored["head.2.weight"]) if "head.2.weight" in stored else 0
    if relations is None and vocabulary is not None:
        raise ValueError(
            f"the relation head (MRC) in the file tells {count} relations apart, which are not the {len(vocabulary)} "
            "of the given vocabulary: give the one that it was trained with"
        )
    if relations is None:
        notes.append(
            f"relation_objectives.mrc: left aside, a head of {count} relations that are no bundled vocabulary; give "
            "theirs to have it"
        )
        return {}, notes
    mrc = MRC(relations, hidden=len(stored["head.0.weight"]))
    mrc.attach(backbone)
    try:
        mrc.load_state_dict(stored)
    except RuntimeError as error:
        raise ValueError(f"the relation head (MRC) does not fit the model: {' '.join(str(error).split())}") from error
    return {"mrc": mrc}, [*notes, f"relation_objectives.mrc: loaded, a head of {count} relations"]
