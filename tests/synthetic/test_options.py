"""How things look, and noise in what is said of them."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.synthetic import World, generate
from relpretrain.synthetic.hold_out import HeldOut, canonical
from relpretrain.synthetic.relations import INVERSE
from relpretrain.synthetic.render import TEXTURES
from tests.synthetic.reading import KINDS, open_png, relation_of, samples, seen_in, true

NO_PROBES = {"items_vsr": 3, "items_valse": 2}


def _scenes(count=40, **dials):
    world = World(**dials)
    return [world.scene(np.random.default_rng(seed)) for seed in range(count)]


def test_sizes_are_what_labels_say():
    sides = {"small": [], "large": []}
    for scene in _scenes(sizes=("small", "large"), shapes=("square", "circle"), image_size=40):
        for entity in scene.graph.entities:
            size, _, _ = entity.label.split()
            sides[size].append(entity.box.width)
    assert max(sides["small"]) <= 0.26 * 40 < 0.4 * 40 <= min(sides["large"])


def test_a_single_size_or_texture_is_not_named():
    for dials in ({"sizes": ("large",)}, {"textures": ("striped",)}):
        assert World(**dials).kinds == World().kinds
    assert World(sizes=("small", "large"), textures=("plain", "dotted")).kinds[0] == "small plain red square"
    assert all(e.box.width >= 0.42 * 32 - 1 for s in _scenes(sizes=("large",)) for e in s.graph.entities)


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_are_what_labels_say(texture):
    """Of the rows and columns of an object's pixels, by how often the shade changes along them."""
    seen = Counter()
    for scene in _scenes(textures=tuple(TEXTURES), noise=0):
        for entity in scene.graph.entities:
            if entity.label.split()[0] == texture:
                left, top, right, bottom = map(int, entity.box)
                shade = scene.pixels[top:bottom, left:right].astype(int).sum(2)
                across, down = (np.diff(shade, axis=axis) != 0 for axis in (1, 0))
                rows, columns = across.any(1).mean(), down.any(0).mean()
                seen[
                    "plain"
                    if rows == columns == 0
                    else "striped"
                    if rows == 0
                    else "dotted"
                    if rows < 0.8
                    else "checked"
                ] += 1
    assert set(seen) == {texture}


def test_clutter_is_on_the_ground_and_no_object():
    for scene, clean in zip(_scenes(clutter=8, noise=0), _scenes(noise=0), strict=True):
        assert scene.graph == clean.graph
        ground = np.ones((32, 32), bool)
        for entity in scene.graph.entities:
            left, top, right, bottom = map(int, entity.box)
            ground[top:bottom, left:right] = False
        marked = (np.ptp(scene.pixels.astype(int), 2) > 0) & ground
        assert 1 <= marked.sum() <= 8 * 4
        assert not (np.ptp(clean.pixels.astype(int), 2) > 0)[ground].any()


def test_occlusion_hides_no_more_than_its_share():
    largest = 0.0
    for scene in _scenes(150, occlusion=0.3, objects=3, image_size=40):
        entities = scene.graph.entities
        for i, one in enumerate(entities):
            for other in entities[:i]:
                shared = one.box.clip(other.box).area
                largest = max(largest, shared / min(one.box.area, other.box.area))
                assert not shared or one.label.split()[0] != other.label.split()[0]
    assert 0.2 < largest <= 0.3
    assert not any(a.box.clip(b.box).area for s in _scenes(objects=3) for a, b in [s.graph.entities[:2]])


def test_the_smaller_thing_is_in_front():
    hidden = 0
    for scene in _scenes(150, occlusion=0.4, noise=0, shapes=("square",)):
        small, large = sorted(scene.graph.entities, key=lambda entity: entity.box.area)
        common = small.box.clip(large.box)
        if common.area and small.box.area < large.box.area:
            hidden += 1
            left, top, right, bottom = map(int, small.box)
            assert np.ptp(scene.pixels[top:bottom, left:right].reshape(-1, 3), 0).max() == 0  # all of one shade
    assert hidden > 5


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    sizes = {"images_captions": 300, "images_regions": 5, "images_graphs": 300, "images_validation": 40}
    noise = {"caption_noise": 0.2, "label_noise": 0.3}
    return generate(tmp_path_factory.mktemp("noisy"), **sizes, **NO_PROBES, **noise, **KINDS)


def _is_true(text, seen):
    said = relation_of(text)
    return true(seen, *said) if said else set(text.split(" and ")) == set(seen)


def test_a_share_of_the_captions_is_of_other_scenes(noisy):
    texts = [(record["captions"][0], seen_in(open_png(png))) for png, record in samples(noisy / "captions")]
    false = sum(not _is_true(text, seen) for text, seen in texts)
    assert 0.14 < false / 300 < 0.26
    assert json.loads((noisy / "world.json").read_text())["drawn"]["captions"]["captions of another scene"] == false
    assert all(_is_true(r["captions"][0], seen_in(open_png(png))) for png, r in samples(noisy / "validation"))


def test_a_share_of_the_relations_is_false(noisy):
    false = Counter()
    for split in ("graphs", "validation"):
        for png, record in samples(noisy / split):
            labels = [entity["label"] for entity in record["entities"]]
            for r in record["relations"]:
                said = (labels[r["subject"]], r["relation"], labels[r["object"]])
                false[split] += not true(seen_in(open_png(png)), *said)
    assert 0.23 < false["graphs"] / 300 < 0.37
    assert not false["validation"]
    drawn = json.loads((noisy / "world.json").read_text())["drawn"]
    assert drawn["graphs"] == {"relations": 300, "false relations": false["graphs"]}


def test_neighbours_show_the_same_things(tmp_path):
    sizes = {"images_captions": 60, "images_regions": 0, "images_graphs": 12, "images_validation": 8}
    kinds = {"colors": ("red", "green", "blue"), "shapes": ("square", "circle"), "objects": (2, 3)}
    world = generate(
        tmp_path / "world", **sizes, **NO_PROBES, **kinds, alike=4, shard_size=12, one_corpus=True, hold_out_pairs=0.2
    )
    seen = [seen_in(open_png(png)) for png, _ in samples(world / "captions")]
    groups = [seen[i : i + 4] for i in range(0, 60, 4)]
    assert all(len({frozenset(image) for image in group}) == 1 for group in groups)
    assert len({frozenset(group[0]) for group in groups}) > 5
    assert all(len({tuple(image.items()) for image in group}) == 4 for group in groups)
    of_graphs = [{entity["label"] for entity in record["entities"]} for _, record in samples(world / "graphs")]
    assert of_graphs == [set(image) for image in seen[:12]]
    with pytest.raises(ValueError, match="alike is 5 and shard_size 12"):
        generate(tmp_path / "other", alike=5, shard_size=12)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_neighbours_are_mirror_images(tmp_path, share):
    sizes = {"images_captions": 300, "images_regions": 0, "images_graphs": 3, "images_validation": 1}
    kinds = {"colors": ("red", "green", "blue"), "shapes": ("square", "circle"), "objects": (2, 3)}
    world = generate(tmp_path / "world", **sizes, **NO_PROBES, **kinds, alike=3, shard_size=300, mirrored=share)
    seen = [seen_in(open_png(png)) for png, _ in samples(world / "captions")]
    within = [_are_mirror_images(seen[i], seen[i + 1]) for i in range(299) if i % 3 < 2]
    assert sum(within) / 200 == pytest.approx(share, abs=0.1 if 0 < share < 1 else 0)


def _are_mirror_images(one, other, size=32):
    """Whether two things have the opposite place in one direction and the same in the other; three: in both."""
    across = {label: (size - x, y) for label, (x, y) in one.items()}
    upright = {label: (x, size - y) for label, (x, y) in one.items()}
    both = {label: (size - x, size - y) for label, (x, y) in one.items()}
    return other in ((across, upright) if len(one) == 2 else (both,))


@pytest.mark.parametrize("objects", [2, 3, 5])
def test_a_mirror_makes_every_relation_its_opposite(objects):
    dials = {"objects": objects, "image_size": 64, "shapes": ("square", "circle")}
    world, scenes = World(**dials), _scenes(20, **dials)
    for seed, scene in enumerate(scenes):
        other = world.mirrored(scene, np.random.default_rng(seed))
        assert {(s, INVERSE[name], o) for s, name, o in _told(scene)} == set(_told(other))


def test_a_mirror_leaves_the_heights_of_two_things_side_by_side():
    world = World()
    for seed, scene in enumerate(_scenes(20)):
        other = world.mirrored(scene, np.random.default_rng(seed))
        side = "left of" in {relation.relation for relation in scene.truths}
        before, after = ([e.box.center[side] for e in s.graph.entities] for s in (scene, other))
        assert before == after  # so a text from top to bottom names things side by side in the same order


def test_a_mirror_does_not_show_what_is_held_out():
    pairs = list(itertools.combinations(World().kinds, 2))
    held_out = HeldOut(combinations=tuple(canonical(one, "left of", other) for one, other in pairs[::3]))
    world, found = World(objects=3, held_out=held_out), Counter()
    for seed, scene in enumerate(_scenes(100, objects=3, held_out=held_out)):
        other = world.mirrored(scene, np.random.default_rng(seed))
        found[other is None] += 1
        assert other is None or all(held_out.status(*composition) == "seen" for composition in _told(other))
    assert min(found.values()) > 10


def _told(scene):
    return [(scene.labels[r.subject], r.relation, scene.labels[r.object]) for r in scene.truths]


def test_graphs_omit_a_share_of_the_relations(tmp_path):
    sizes = {"images_captions": 10, "images_regions": 5, "images_graphs": 300, "images_validation": 40}
    world = generate(tmp_path / "world", **sizes, **NO_PROBES, mutual=True, omitted_relations=0.4)
    told = {split: [len(r["relations"]) for _, r in samples(world / split)] for split in ("graphs", "validation")}
    assert {split: set(numbers) for split, numbers in told.items()} == {"graphs": {1, 2}, "validation": {2}}
    # Both omitted: one is told all the same. So two are told with a chance of 0.6 * 0.6.
    assert 0.28 < told["graphs"].count(2) / 300 < 0.44
    drawn = json.loads((world / "world.json").read_text())["drawn"]["graphs"]
    assert drawn == {"relations": sum(told["graphs"]), "omitted relations": 600 - sum(told["graphs"])}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_captions_say_relations_in_sentences_or_phrases(tmp_path, share):
    sizes = {"images_captions": 200, "images_regions": 1, "images_graphs": 1, "images_validation": 1}
    dials = {"relational_captions": 1.0, "relational_sentences": share}
    world = generate(tmp_path / "world", **sizes, **NO_PROBES, **dials)
    sentences = sum(record["captions"][0].startswith("The ") for _, record in samples(world / "captions"))
    assert sentences / 200 == pytest.approx(share, abs=0.1 if 0 < share < 1 else 0)


def test_all_dials_at_once(tmp_path):
    dials = {"textures": ("plain", "checked"), "sizes": ("small", "large"), "clutter": 5, "occlusion": 0.2}
    dials |= {"objects": (3, 5), "image_size": 64, "relations": ("on", "carrying", "near", "far from", "left of")}
    dials |= {"hold_out_pairs": 0.1, "hold_out_combinations": 0.1, "one_corpus": True, "counting_captions": 0.1}
    dials |= {"caption_noise": 0.1, "label_noise": 0.1, "mutual": True}
    dials |= {"omitted_relations": 0.3, "relational_sentences": 0.7, "alike": 2, "mirrored": 0.5}
    sizes = {"images_captions": 40, "images_regions": 10, "images_graphs": 20, "images_validation": 10}
    items = {"items_vsr": 12, "items_valse": 12, "items_svo": 12, "items_retrieval": 20, "items_paragraphs": 20}
    made = [generate(tmp_path / name, **sizes, **items, **dials) for name in ("one", "same")]
    worlds = [(folder / "world.json").read_text() for folder in made]
    assert worlds[0] == worlds[1]
    assert json.loads(worlds[0])["textures"] == ["plain", "checked"]
    encoder = TextEncoder(load_tokenizer(made[0] / "tokenizer"), 99)
    for _, record in samples(made[0] / "captions"):
        words = [word for word in encoder.caption(record["captions"][0]).words if word >= 0]
        assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"textures": ("plaid",)}, "There is no texture 'plaid'; did you mean 'plain'"),
        ({"sizes": ("huge",)}, "There is no size 'huge'"),
        ({"sizes": ("any", "large")}, "'any' stands alone"),
        ({"occlusion": 0.8}, "at most 0.5"),
        ({"clutter": -1}, "clutter is -1"),
        ({"caption_noise": 1.5}, "caption_noise=1.5 must be a fraction"),
        ({"label_noise": -0.1}, "label_noise=-0.1 must be a fraction"),
        ({"omitted_relations": 1.1}, "omitted_relations=1.1 must be a fraction"),
        ({"mirrored": 1.5, "alike": 2}, "mirrored is 1.5 and alike 2"),
        ({"mirrored": 0.5}, "mirrored is 0.5 and alike 1.*set alike to 2"),
        ({"relational_sentences": -1}, "relational_sentences=-1 must be a fraction"),
        ({"sizes": ("small", "large"), "image_size": 17}, "image_size is 17"),
    ],
)
def test_dials_have_ends(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "world", **changes)
    assert not (tmp_path / "world").exists()
