"""What may be said of hand-made graphs, and what may not."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.dialogues.scene import read_scene
from relpretrain.dialogues.semantic import semantic_turns
from relpretrain.dialogues.single import foils, single_turns
from relpretrain.dialogues.temporal import temporal_turns
from relpretrain.dialogues.views import View, geometric_turns
from relpretrain.scene_graph import Box

CAT, DOG, MAT = [0, 0, 10, 10], [30, 0, 40, 10], [0, 20, 40, 30]


@pytest.fixture
def scene(tmp_path):
    """Makes a scene of entities by (label, box, attributes) and relations, as it is read from a shard."""
    count = 0

    def make(entities, relations=(), frames=None, exhaustive=(), **more):
        nonlocal count
        count += 1
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30)).save(buffer, "PNG")
        listed = [{"label": label, "box": box, "attributes": list(rest)} for label, box, *rest in entities]
        triplets = [dict(zip(("subject", "relation", "object"), triplet, strict=True)) for triplet in relations]
        with ShardWriter(tmp_path / str(count)) as writer:
            writer.write("k", buffer.getvalue(), "png", {"entities": listed, "relations": triplets, **more})
        return read_scene(ShardIndex.of(str(tmp_path / f"{count}/shard-000000.tar")), 0, frames, exhaustive)

    return make


def asked(turns):
    return {turn.form: (turn.question, turn.answer) for turn in turns}


def all_asked(make, *scenes, draws=30):
    """Everything that is said in many draws."""
    return {turn for seed in range(draws) for turn in make(*scenes, np.random.default_rng(seed))}


def test_nothing_is_denied_of_a_thing_that_may_be_another(scene):
    one = scene([("cat", CAT), ("dog", DOG)], [(0, "behind", 1)])
    assert [foil.relation for foil in foils(one, one.statements[0])] == ["in front of"]
    two = scene([("cat", CAT), ("dog", DOG), ("cat", MAT)], [(0, "behind", 1)])
    assert foils(two, two.statements[0]) == []
    assert single_turns(two, np.random.default_rng(0)) == []
    unsure = scene([("cat", CAT), ("dog", DOG), ("animal", MAT)], [(0, "behind", 1)])  # which may be a cat
    assert foils(unsure, unsure.statements[0]) == []


def test_distances_are_denied_by_exhaustive_graphs_alone(scene):
    entities, near = [("lamp", CAT), ("chair", DOG)], [(0, "beside", 1)]
    unknown = scene(entities, near)
    assert foils(unknown, unknown.statements[0]) == []
    known = scene(entities, near, source="toy", exhaustive=("toy",))
    assert [foil.relation for foil in foils(known, known.statements[0])] == ["far from"]


def test_absence_is_said_of_exhaustive_graphs_alone(scene):
    entities = [("cat", CAT), ("dog", DOG)], [("cat", CAT), ("mat", MAT)]
    known = [scene(listed, source="toy", exhaustive=("toy",)) for listed in entities]
    unknown = [scene(listed, source="photos", exhaustive=("toy",)) for listed in entities]
    assert {"only_in_one", "more_things", "common"} == {turn.form for turn in all_asked(semantic_turns, *known)}
    assert {"common"} == {turn.form for turn in all_asked(semantic_turns, *unknown)}
    (common,) = all_asked(semantic_turns, *unknown)
    assert common.answer == "Both images show cat."


def test_attributes_and_relations_of_the_same_things(scene):
    one = scene([("car", CAT, "red"), ("man", DOG)], [(1, "behind", 0)])
    other = scene([("car", CAT, "blue", "old"), ("man", DOG)], [(1, "in front of", 0)])
    found = asked(all_asked(semantic_turns, one, other))
    assert found["attributes"][1] == "In the first image: red. In the second image: blue and old."
    assert found["relation_in_each"][1] == (
        'In the first image: "man behind car". In the second image: "man in front of car". '
        "The relations contradict each other."
    )
    which = {turn for turn in all_asked(semantic_turns, one, other) if turn.form == "which_image"}
    for turn in which:
        expected = "first" if "behind" in turn.question else "second"
        assert turn.answer.endswith(f". The {expected} image")
    several = scene([("car", CAT, "blue"), ("car", MAT), ("man", DOG)], [(2, "in front of", 0)])
    turns = all_asked(semantic_turns, one, several)
    assert {turn.form for turn in turns} == {"common", "which_image", "true_of_both"}
    assert all("behind" not in turn.question for turn in turns)  # of the other car nothing is known


def test_names_that_would_be_marks_or_quotes_are_left_out(scene):
    odd = [("<image>", CAT), ('a "cat"', CAT), ("x" * 99, CAT), ("dog", DOG, "<image>", "big")]
    found = scene(odd, [(3, "<image> of", 3), (0, "on", 3)])
    assert found.labels == ["dog"]
    assert found.graph.entities[0].attributes == ("big",)
    assert found.statements == []


@pytest.mark.parametrize(
    ("view", "label", "said"),
    [
        (View("mirror", Box(0, 0, 40, 30), (40, 30)), "cat", "The cat moved right."),
        (View("crop", Box(20, 0, 40, 15), (40, 30)), "cat", "The cat left the view."),
        (
            View("crop", Box(0, 0, 20, 15), (40, 30)),
            "cat",
            "The cat moved right and down and takes a larger share of the",
        ),
        (View("crop", Box(5, 0, 25, 15), (40, 30)), "cat", "The cat is cut off at the border."),
        (View("shrink", Box(-40, 0, 40, 60), (40, 30)), "dog", "The dog takes a smaller share of the image."),
        (View("crop", Box(0, 0, 40, 30), (40, 30)), "dog", None),
    ],
)
def test_what_happened_to_a_thing(scene, view, label, said):
    turns = all_asked(lambda s, rng: geometric_turns(s, view, rng), scene([("cat", CAT), ("dog", DOG)]))
    answers = [turn.answer for turn in turns if turn.question.startswith(f"What happened to the {label} ")]
    assert not answers if said is None else (len(answers) == 1 and answers[0].startswith(said)), answers


def test_mirrored_sides(scene):
    view = View("mirror", Box(0, 0, 40, 30), (40, 30))
    turns = all_asked(lambda s, rng: geometric_turns(s, view, rng), scene([("cat", CAT), ("dog", DOG)]))
    sides = {turn.question: turn.answer for turn in turns if turn.form == "side"}
    assert len(sides) == 2
    for question, answer in sides.items():
        cat_first = question.startswith("On which side of the dog is the cat")
        assert answer.startswith("On its left in the first" if cat_first else "On its right in the first")


def test_frames_by_entries_and_by_names(scene):
    frames = re.compile(r"(?P<video>.+)/(?P<frame>\d+)")
    early = scene([("cat", CAT), ("mat", MAT)], [(0, "on", 1)], frames, image_id="kitchen.mp4/0012")
    late = scene([("cat", CAT), ("mat", MAT)], [(0, "under", 1)], frames, video="kitchen.mp4", frame=40)
    found = asked(temporal_turns(late, early, np.random.default_rng(0)))
    assert found["earlier"][1].endswith("The second image")
    assert found["change"][1] == 'At first "cat on mat", later "cat under mat".'
    assert (
        temporal_turns(early, scene([("cat", CAT)], (), frames, image_id="hall.mp4/13"), np.random.default_rng(0)) == []
    )
    assert temporal_turns(early, early, np.random.default_rng(0)) == []


def test_a_broken_sample_is_no_scene(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.write("a", b"no image", "png", {"entities": [{"label": "cat", "box": CAT}]})
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "PNG")
        writer.write("b", buffer.getvalue(), "png", {"entities": [{"label": "cat", "box": CAT}]})  # outside
    index = ShardIndex.of(str(tmp_path / "shard-000000.tar"))
    assert [read_scene(index, row, None) for row in range(2)] == [None, None]
    assert json.loads((tmp_path / "index.json").read_text())["samples"] == 2
