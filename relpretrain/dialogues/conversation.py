"""Conversations in the forms in which trainers of large vision-language models read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from relpretrain.dialogues.wording import Turn

IMAGE = "<image>"
"""Stands for an image in a text: LLaVA's mark, which trainers replace by their model's own."""

Format = Literal["llava", "messages"]
FORMATS: tuple[Format, ...] = ("llava", "messages")


class Group(NamedTuple):
    """Images, and turns about them.

    Args:
        images: Names of files, in the order in which the turns speak of them.
        turns: At least one.
        view: Of two views of one image, how the second was made: `transform`, and the `part` of the first that it
            shows, x_min, y_min, x_max, y_max in pixels.
    """

    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    view: dict[str, Any] | None = None


def conversation(name: str, kind: str, groups: Sequence[Group], form: Format) -> dict[str, Any]:
    """One conversation, in which the images of a group come with its first question.

    "llava" has `id`, `image` (a name, or a list where there are several) and `conversations` of `from` (human, gpt)
    and `value`. "messages" has `id`, `images` and `messages` of `role` (user, assistant) and `content`. Both name what
    was asked in `kind` and `forms`.

    Args:
        name: Its id.
        kind: What its questions are about.
        groups: Several make a few-shot form: questions of one form about other images come first.
        form: One of `FORMATS`.
    """
    images = [image for group in groups for image in group.images]
    said = []
    for group in groups:
        marks = f"{IMAGE}\n" * len(group.images)
        for number, turn in enumerate(group.turns):
            said.append((marks + turn.question if number == 0 else turn.question, turn.answer))
    about: dict[str, Any] = {"id": name, "kind": kind, "forms": [turn.form for group in groups for turn in group.turns]}
    if views := [group.view for group in groups if group.view is not None]:
        about["views"] = views
    if form == "messages":
        messages = [
            {"role": role, "content": text}
            for pair in said
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        return about | {"images": images, "messages": messages}
    turns = [{"from": who, "value": text} for pair in said for who, text in zip(("human", "gpt"), pair, strict=True)]
    return about | {"image": images[0] if len(images) == 1 else images, "conversations": turns}
