"""Checks every statement of dialogues against the generated world: `python -m tests.dialogues.world_checker 2000`.

Texts are taken apart by patterns of their own, and truth comes from the boxes of the shards and the world's own
`true_relations`; nothing of `relpretrain.dialogues` is asked. A sentence that no pattern knows is an error.
"""

import io
import json
import re
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from relpretrain.data.shards.writer import ShardWriter
from relpretrain.scene_graph import Box
from relpretrain.synthetic import generate
from relpretrain.synthetic.relations import FAR, INVERSE, true_relations

SIZE = 64
ALIKE = 4
WORLD = {
    "image_size": SIZE, "objects": (2, 4), "shapes": ("square", "circle", "triangle"),
    "images_captions": 1, "images_regions": 1, "images_validation": 1, "items_vsr": 0, "items_valse": 0,
}  # fmt: skip
FILM = {"alike": ALIKE, "mirrored": 0.4, "shard_size": 100}
SYNONYMS = {"under": "below", "larger than": "bigger than", "next to": "near", "in": "inside", "contain": "around"}
NUMBER = {"first": 0, "second": 1}


def make_world(folder, images, seed=0):
    """Shards of scenes with all relations, and as many whose groups of alike ones are the frames of a video."""
    generate(folder / "scenes", images_graphs=images, seed=seed, relations=tuple(INVERSE), **WORLD)
    generate(folder / "films", images_graphs=images, seed=seed, **WORLD, **FILM)
    with ShardWriter(folder / "shards", 100) as writer:
        for key, (record, image) in read(folder / "scenes/graphs").items():
            writer.write(key, image, "png", record)
        for number, (record, image) in enumerate(read(folder / "films/graphs").values()):
            more = {"image_id": f"film-{number}", "video": f"v{number // ALIKE}", "frame": number % ALIKE}
            writer.write(f"film-{number}", image, "png", record | more)
    return folder / "shards"


def read(folder):
    """Records and images by key."""
    found = {}
    for path in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, ending = member.name.split(".")
                found.setdefault(key, {})[ending] = tar.extractfile(member).read()
    return {key: (json.loads(parts["json"]), parts["png"]) for key, parts in found.items()}


class Truth:
    """What one scene shows."""

    def __init__(self, record):
        self.boxes = {entity["label"]: Box(*entity["box"]) for entity in record["entities"]}
        self.frame = record.get("video"), record.get("frame")

    def split(self, text):
        """A statement's ends and its relation, by the labels of the world: "red square left of blue circle"."""
        words = text.split()
        return " ".join(words[:2]), " ".join(words[2:-2]), " ".join(words[-2:])

    def true(self, text):
        subject, relation, object_ = self.split(text)
        if subject not in self.boxes or object_ not in self.boxes:
            return False
        relation = SYNONYMS.get(relation, relation)
        return relation in true_relations(self.boxes[subject], self.boxes[object_], SIZE)

    def false(self, text):
        """Whether a statement is not even nearly true."""
        subject, relation, object_ = self.split(text)
        if self.true(text) or subject not in self.boxes or object_ not in self.boxes:
            return False
        one, other = self.boxes[subject], self.boxes[object_]
        (x, y), (a, b) = one.center, other.center
        gap = [max(abs(x - a) - (one.width + other.width) / 2, 0), max(abs(y - b) - (one.height + other.height) / 2, 0)]
        return {
            "left of": x >= a, "right of": x <= a, "above": y >= b, "below": y <= b,
            "far from": np.hypot(*gap) < FAR * SIZE, "near": np.hypot(*gap) > 0.1 * SIZE,
            "bigger than": one.width <= other.width, "smaller than": one.width >= other.width,
            "outside of": one.clip(other).area > 0, "on": max(gap) > 0 or y >= b, "touching": max(gap) > 0,
            "inside": not other.contains(one), "around": not one.contains(other),
        }[SYNONYMS.get(relation, relation)]  # fmt: skip


def statements(text):
    return re.findall(r'"([^"]+)"', text)


def names(text):
    return re.split(r", | and ", text)


def options(question):
    return dict(re.findall(r"^([A-H])\. (.+)$", question, re.M))


def chosen(question, answer):
    """The option that an answer chooses, and the others."""
    found = options(question)
    letter, _, text = answer.partition(". ")
    assert found.pop(letter) == text, (question, answer)
    return text, list(found.values())


def check_pair(question, answer, one, other):
    """A question about two scenes."""
    pair = (one, other)
    if question.startswith("What do the two images have in common"):
        shows, _, rest = answer.partition(". In both images: ")
        shared = names(shows.rstrip(".").removeprefix("Both images show "))
        assert all(name in scene.boxes for name in shared for scene in pair)
        assert all(scene.true(text) for text in statements(rest) for scene in pair)
    elif question.startswith("How do the"):
        first, second = statements(answer)
        assert one.true(first)
        assert other.true(second)
        assert one.split(first)[::2] == other.split(second)[::2]
        if "contradict" in answer:
            assert one.false(second)
            assert other.false(first)
        elif "the same" in answer:
            assert one.true(second)
            assert other.true(first)
    elif question.startswith("Which image shows more"):
        counts = [len(scene.boxes) for scene in pair]
        said = [int(number) for number in re.findall(r"\d+", answer)]
        assert said == (counts if counts[0] != counts[1] else counts[:1])
        if counts[0] != counts[1]:
            assert counts[NUMBER[answer.split()[1]]] == max(counts)
    elif question.startswith("Which image shows"):
        right, (wrong,) = chosen(question, answer)
        (text,) = statements(question)
        assert pair[NUMBER[right.split()[1]]].true(text)
        assert pair[NUMBER[wrong.split()[1]]].false(text)
    elif question.startswith("Is this true of both"):
        (text,) = statements(question)
        found = re.fullmatch(r"Yes\.|No, of neither\.|No, only of the (first|second) image\.", answer)
        if answer == "Yes.":
            assert one.true(text)
            assert other.true(text)
        elif found[1]:
            assert pair[NUMBER[found[1]]].true(text)
            assert pair[1 - NUMBER[found[1]]].false(text)
        else:
            assert one.false(text)
            assert other.false(text)
    elif question.startswith("What does the"):
        mine = NUMBER[question.split()[3]]
        found = re.fullmatch(r"Only the (first|second) image shows (.+)\.", answer)
        assert NUMBER[found[1]] == mine
        assert set(names(found[2])) == pair[mine].boxes.keys() - pair[1 - mine].boxes.keys()
    elif question.startswith("These are two frames"):
        right, _ = chosen(question, answer)
        early = NUMBER[right.split()[1]]
        assert one.frame[0] == other.frame[0]
        assert pair[early].frame[1] < pair[1 - early].frame[1]
    elif question.startswith("How does the relation"):
        before, after = statements(answer)
        early, late = sorted(pair, key=lambda scene: scene.frame[1])
        assert early.true(before)
        assert late.true(after)
        assert early.false(after)
        assert late.false(before)
    else:
        raise AssertionError(f"unknown question: {question}")


def check_single(question, answer, scene):
    """A question about one scene."""
    if question.startswith("Which of these is true"):
        right, wrong = chosen(question, answer)
        assert scene.true(right)
        assert wrong
        assert all(map(scene.false, wrong))
    elif question.startswith("Is this true of the image"):
        (text,) = statements(question)
        if answer == "Yes.":
            assert scene.true(text)
        else:
            (instead,) = statements(re.fullmatch(r"No\. It shows (.+)\.", answer)[1])
            assert scene.true(instead)
            assert scene.false(text)
    else:
        raise AssertionError(f"unknown question: {question}")


def check_view(question, answer, scene, view, first, second):
    """A question about a scene and a view of it, whose pixels show how it was made."""
    x0, y0, x1, y1 = map(int, view["part"])
    expected = Image.new("RGB", (x1 - x0, y1 - y0), (128, 128, 128))
    expected.paste(first, (-x0, -y0))
    expected = np.asarray(expected.resize((SIZE, SIZE), Image.Resampling.BILINEAR), float)
    if view["transform"] == "mirror":
        expected = expected[:, ::-1]
    assert np.abs(expected - np.asarray(second, float)).mean() < 8
    scale, mirrored = SIZE / (x1 - x0), view["transform"] == "mirror"

    def after(box):
        """Centre and area in the view, and which share of the box is in it."""
        inside = Box(max(box.x_min, x0), max(box.y_min, y0), min(box.x_max, x1), min(box.y_max, y1))
        share = max(inside.width, 0) * max(inside.height, 0) / box.area
        x, y = ((side - start) * scale for side, start in zip(inside.center, (x0, y0), strict=True))
        return (SIZE - x if mirrored else x), y, inside.area * scale**2, share

    if question.startswith("How was the second image made"):
        right, wrong = chosen(question, answer)
        words = {"crop": "cut out", "mirror": "mirrored", "shrink": "smaller"}
        assert words[view["transform"]] in right
        assert len(wrong) == 2
    elif question.startswith("What happened to the"):
        label = re.fullmatch(r"What happened to the (.+) from the first image to the second\?", question)[1]
        box = scene.boxes[label]
        x, y, area, share = after(box)
        said = answer.removeprefix(f"The {label} ").rstrip(".")
        if said == "left the view":
            assert share == 0
        elif said == "is cut off at the border":
            assert 0 < share < 0.9
        else:
            found = re.fullmatch(
                r"(?:moved (left|right)?(?: and )?(up|down)?)?(?: and )?"
                r"(?:takes a (larger|smaller) share of the image)?",
                said,
            )
            assert found, answer
            assert any(found.groups()), answer
            assert share >= 0.9
            dx, dy = (x - box.center[0]) / SIZE, (y - box.center[1]) / SIZE
            assert found[1] == ("left" if dx <= -0.1 + 1e-9 else "right" if dx >= 0.1 - 1e-9 else None)
            assert found[2] == ("up" if dy <= -0.1 + 1e-9 else "down" if dy >= 0.1 - 1e-9 else None)
            if found[3]:
                assert (area > box.area) == (found[3] == "larger")
                assert max(area, box.area) / min(area, box.area) > 1.49
    elif question.startswith("Is the"):
        label = re.fullmatch(r"Is the (.+) of the first image still in view in the second\?", question)[1]
        assert after(scene.boxes[label])[3] >= 0.9 if answer == "Yes." else after(scene.boxes[label])[3] == 0
    elif question.startswith("On which side"):
        found = re.fullmatch(r"On which side of the (.+) is the (.+) in each image, as seen by the viewer\?", question)
        other, one = (scene.boxes[name] for name in found.groups())
        first_side, second_side = re.fullmatch(
            r"On its (left|right) in the first image, on its (left|right) in the second\.", answer
        ).groups()
        assert first_side == ("left" if one.center[0] < other.center[0] else "right")
        assert second_side == ("left" if after(one)[0] < after(other)[0] else "right")
    else:
        raise AssertionError(f"unknown question: {question}")


def check(path, shards):
    """Check all conversations of a file; how many questions of which form were checked."""
    truths = {key: Truth(record) for key, (record, _) in read(shards).items()}
    checked = Counter()
    for entry in json.loads(Path(path).read_text(encoding="utf-8")):
        names_left = iter([entry["image"]] if isinstance(entry["image"], str) else entry["image"])
        views, images = iter(entry.get("views", ())), []
        said = [turn["value"] for turn in entry["conversations"]]
        for form, question, answer in zip(entry["forms"], said[::2], said[1::2], strict=True):
            if marks := question.count("<image>\n"):
                images = [next(names_left) for _ in range(marks)]
                view = next(views, None)
            question = question.replace("<image>\n", "")
            scenes = [truths.get(Path(name).stem.partition("_")[2]) for name in images]
            try:
                if entry["kind"] == "geometric":
                    pixels = [Image.open(io.BytesIO((Path(path).parent / name).read_bytes())) for name in images]
                    check_view(question, answer, scenes[0], view, *(image.convert("RGB") for image in pixels))
                elif entry["kind"] == "single":
                    check_single(question, answer, scenes[0])
                else:
                    check_pair(question, answer, *scenes)
            except (AssertionError, KeyError, TypeError) as error:
                raise AssertionError(f"{entry['id']}: {question} {answer} {images}") from error
            checked[f"{entry['kind']}/{form}"] += 1
        assert next(names_left, None) is None
    return checked


if __name__ == "__main__":
    from relpretrain.dialogues.make import KINDS, Settings, make_dialogues

    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as temporary:
        made = make_world(Path(temporary), 2000)
        counts = make_dialogues(
            sorted(map(str, made.glob("*.tar"))), Path(temporary) / "d.json", Settings(KINDS, wanted, turns=9), 2
        )
        found = check(Path(temporary) / "d.json", made)
        for name, count in sorted(found.items()):
            print(f"{name:<28}{count:>7}")
        print(f"{counts['conversations']} conversations, {found.total()} questions: every answer is true")
