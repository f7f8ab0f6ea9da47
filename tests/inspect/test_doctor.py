import io
import json
import pickle
import tarfile
from itertools import pairwise

import numpy as np
import pytest

from relpretrain.cli import main
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.inspect.common import survey
from relpretrain.inspect.doctor.command import Longer
from relpretrain.inspect.doctor.counts import field_of
from relpretrain.inspect.doctor.examination import plain_schedule
from relpretrain.inspect.doctor.judge import examine, plain_judges, recipe_judges
from relpretrain.inspect.doctor.shuffle import mixing
from tests.data.small import picture, record, stream, tokenizer, write_shards


def changed(number, **changes):
    return json.dumps({**record(number), **changes}).encode()


def entity(box, label="cat"):
    return {"label": label, "box": box}


FAULTS = {
    "fine": (picture(0), changed(0)),
    "cut": (picture(1)[:200], changed(1)),
    "text": (b"no image at all", changed(2)),
    "size": (picture(3), changed(3, width=41)),
    "nan": (picture(4), changed(4, entities=[entity([1, 2, 3, 4]), entity([1, 2, float("nan"), 4])], relations=[])),
    "out": (picture(5), changed(5, entities=[entity([1, 2, 43, 4])], relations=[])),
    "end": (picture(6), changed(6, entities=[entity([1, 2, 3, 4])], relations=[{"subject": 0, "relation": "on"}])),
    "who": (picture(7), changed(7, relations=[{"subject": 0, "relation": "on", "object": 3}])),
    "json": (picture(8), b"{"),
    "bare": (picture(9), None),
    "blank": (picture(10), changed(10, captions=["", " ", "a cat", "A  cat"], entities=[], relations=[])),
    "twice": (
        picture(11),
        changed(11, entities=[entity([1, 2, 3, 4]), entity([1, 2, 3, 4]), entity([-0.5, 0, 30, 30])], relations=[]),
    ),
}
"""Samples by key, with what is wrong with them in a place of its own."""


@pytest.fixture
def faulty(tmp_path):
    folder = tmp_path / "faulty"
    folder.mkdir()
    with tarfile.open(folder / "f.tar", "w") as tar:
        for key, (image, text) in [*FAULTS.items(), ("fine", FAULTS["fine"])]:
            for ending, content in (("png", image), ("json", text)):
                if content is not None:
                    member = tarfile.TarInfo(f"{key}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(folder / "f.tar")


def test_every_bad_sample_is_named_with_its_field(faulty):
    found = examine("d", [faulty], plain_judges())
    both, graphs = ("captions", "regions", "graphs"), ("regions", "graphs")
    assert {(bad.key, bad.streams, bad.reason, bad.field) for bad in found.bad} == {
        ("fine", (), "repeated_key", "key"),
        ("json", (), "malformed_json", "json"),
        ("bare", (), "missing_annotation", "json"),
        ("cut", both, "truncated_image", "image"),
        ("text", both, "not_an_image", "image"),
        ("size", graphs, "size_differs", "width, height"),
        ("nan", ("regions",), "malformed_box", "entities[1].box"),
        ("out", ("regions",), "box_outside_image", "entities[0].box"),
        ("end", graphs, "malformed_relation", "relations[0]"),
        ("who", graphs, "relation_without_entity", "relations[0]"),
    }
    assert all(bad.shard == "faulty/f" for bad in found.bad)
    assert [bad.detail for bad in found.bad if bad.key == "text"] == ["cannot identify image file"]  # no address in it
    assert found.samples == 13
    assert found.eligible == {"captions": 10, "regions": 9, "graphs": 6}
    assert found.bad_fraction == pytest.approx(5 / 6)  # of graphs; 10 of all 13


def test_judges_as_training_does(faulty, tmp_path):
    """The streams' own pipelines refuse the same samples for the same reasons."""
    encoder = TextEncoder(load_tokenizer(tokenizer(tmp_path)), 12)
    streams = {kind: stream(kind, faulty, max_tokens=12) for kind in ("captions", "regions", "graphs")}
    judges = recipe_judges(streams, 32, dict.fromkeys(streams, encoder), 0.25)
    found = examine("small", [faulty], judges)
    index = ShardIndex.of(faulty)
    for name, of_kind in streams.items():
        pipeline = Pipeline(of_kind, 32, TextWriter(of_kind, encoder))
        refused = set()
        for row in index.eligible(name).tolist():
            example, lost = pipeline("small", index, row, np.random.default_rng(row))
            if example is None:
                refused.add((index.keys[row], lost[0]))
        assert {(bad.key, bad.reason) for bad in found.bad if name in bad.streams} == refused
        assert refused


def test_text_limits_are_judged_with_a_recipe(tmp_path):
    shards = write_shards(tmp_path / "s", 6)
    encoder = TextEncoder(load_tokenizer(tokenizer(tmp_path)), 3)
    judges = recipe_judges({"graphs": stream("graphs", shards)}, 32, {"graphs": encoder}, 0.25)
    found = examine("small", [f"{shards}/s-000000.tar", f"{shards}/s-000001.tar"], judges)
    assert [bad.reason for bad in found.bad] == ["no_triplet_fits"] * 6
    assert found.bad_fraction == 1


def test_counts_of_boxes_and_captions(faulty):
    found = examine("d", [faulty], plain_judges())
    boxes = found.counts.boxes
    assert boxes["boxes"] == 3 * 5 + 2 + 1 + 1 + 3
    assert (boxes["degenerate"], boxes["outside"], boxes["duplicated"]) == (1, 1, 1)
    assert boxes["over the border"] == 1
    assert found.counts.examples["box duplicated"] == ["faulty/f/twice entities[1].box"]
    captions = found.counts.captions
    assert (captions["empty"], captions["repeated in a sample"]) == (2, 1)
    assert found.counts.relations == {"beside": 4, "on": 6, "under": 4}
    assert found.counts.formats["unreadable"] == 1
    long = examine("d", [faulty], plain_judges(), long_caption=lambda caption: len(caption) > 5)
    assert long.counts.captions["too long"] == 2 * 9 + 1


def test_triplets_that_mrc_never_draws_are_counted(tmp_path, capsys):
    (tmp_path / "t").mkdir()
    on = {"subject": 0, "relation": "on", "object": 1}
    relations = [on, {**on, "object": 0}, on, {**on, "relation": "under"}]
    with tarfile.open(tmp_path / "t" / "t.tar", "w") as tar:
        for ending, content in (("png", picture(0)), ("json", changed(0, relations=relations))):
            member = tarfile.TarInfo(f"a.{ending}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found = examine("d", [str(tmp_path / "t" / "t.tar")], plain_judges())
    assert found.counts.triplets == {"repeated": 1, "of an entity with itself": 1}
    assert found.counts.examples["triplet repeated"] == ["t/t/a relations[2]"]
    assert main(["data", "doctor", str(tmp_path / "t"), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "of an entity with itself (never drawn for MRC)" in printed
    assert "t/t/a relations[1]" in printed


def test_what_comes_again_is_counted(tmp_path):
    """Three shards of which two are the same: keys, ids and image files come again; captions do everywhere."""
    first = write_shards(tmp_path / "a", 4)
    second = write_shards(tmp_path / "b", 4)
    found = examine("d", [f"{first}/s-000000.tar", f"{second}/s-000000.tar"], plain_judges())
    again = found.duplicates()
    assert again == {
        "key, in another shard": 4,
        "image id": 4,
        "image file": 4,
        "caption of another image": 2 * 4 - 2,  # four images share two captions
    }


def test_excluded_samples_are_no_bad_ones(tmp_path):
    shards = write_shards(tmp_path / "s", 5)
    encoder = TextEncoder(load_tokenizer(tokenizer(tmp_path)), 20)
    streams = {"captions": stream("captions", shards)}
    judges = recipe_judges(streams, 32, {"captions": encoder}, 0.25, Exclusion({"1", "3"}))
    found = examine("small", [f"{shards}/s-000000.tar"], judges)
    assert (found.eligible["captions"], found.excluded["captions"], found.bad) == (3, 2, [])


def test_what_goes_to_other_processes_can_be_pickled(tmp_path, monkeypatch):
    """Each process gets a copy of the judges, as this one does here."""
    monkeypatch.setattr(survey, "ordered_map", lambda work, items, _: map(pickle.loads(pickle.dumps(work)), items))
    shards = write_shards(tmp_path / "s", 5)
    encoder = TextEncoder(load_tokenizer(tokenizer(tmp_path)), 20)
    judges = recipe_judges({"graphs": stream("graphs", shards)}, 32, {"graphs": encoder}, 0.25)
    found = examine("small", [f"{shards}/s-000000.tar"], judges, long_caption=Longer(encoder))
    assert (found.eligible["graphs"], found.bad) == (5, [])


@pytest.mark.slow
def test_processes_find_the_same(tmp_path):
    folder = write_shards(tmp_path / "s", 400, 200)
    shards = [f"{folder}/s-00000{n}.tar" for n in range(2)]
    alone, together = (examine("d", shards, plain_judges(), workers=workers) for workers in (1, 2))
    assert alone.counts == together.counts
    assert alone.eligible == together.eligible
    assert len(alone.counts.image_ids) == 400


def brute(traits, order):
    sets = [set(traits[i]) for i in order]
    return sum(bool(a & b) for a, b in pairwise(sets))


def test_neighbours_are_counted():
    rng = np.random.default_rng(0)
    traits = [rng.integers(0, 9, rng.integers(0, 4)).tolist() for _ in range(200)]
    sizes = np.array(list(map(len, traits)))
    flat = np.array([value for values in traits for value in values])
    order = rng.permutation(200)[:150]
    assert mixing(flat, sizes, order).shared == brute(traits, order)
    assert mixing(flat, sizes).shared == brute(traits, range(200))


def test_sorted_samples_are_told_from_shuffled_ones():
    values = np.repeat(np.arange(20), 50)
    rng = np.random.default_rng(0)
    by_chance = [mixing(rng.permutation(values)) for _ in range(50)]
    assert np.mean([m.shared for m in by_chance]) == pytest.approx(by_chance[0].expected, rel=0.05)
    assert all(m.is_random for m in by_chance)
    assert mixing(values).shared == 980
    assert not mixing(values).is_random
    assert mixing(values[:1]).is_random


def test_the_order_of_training_is_judged(tmp_path):
    """Samples in the shards are sorted by image; the streams draw them mixed."""
    from relpretrain.data.shards.writer import ShardWriter

    with ShardWriter(tmp_path / "s", samples_per_shard=100) as writer:
        for i in range(300):
            writer.write(f"k{i:03d}", picture(0), "png", record(i // 10))
    shards = sorted(map(str, (tmp_path / "s").glob("*.tar")))
    found = examine("d", shards, plain_judges())
    told = found.mixing(plain_schedule(found))
    assert told["in the shards"]["image id"].shared == 270
    assert not told["in the shards"]["image id"].is_random
    assert told["graphs, as drawn"]["image id"].is_random
    assert told["graphs, as drawn"]["image id"].pairs == 299


def test_streams_over_different_shards_of_a_dataset_are_told_apart(tmp_path):
    """Only the first shard has captions, and only the second is drawn by the stream of graphs."""
    first = f"{write_shards(tmp_path / 'a', 9, 9, graph=False)}/s-000000.tar"
    second = f"{write_shards(tmp_path / 'b', 9, 9, captions=0)}/s-000000.tar"
    found = examine("small", [first, second], plain_judges())
    streams = {"captions": stream("captions", first), "graphs": stream("graphs", second)}
    rows = {"captions": {"small": [9]}, "graphs": {"small": [9]}}
    told = found.mixing(BatchSchedule(streams, rows, 0))
    assert told["captions, as drawn"]["caption"].shared == 8
    assert told["graphs, as drawn"]["caption"].shared == 0
    assert told["graphs, as drawn"]["caption"].expected == 0


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("empty_box", "entities[1].box"),
        ("empty_label", "entities[2].label"),
        ("empty_relation", "relations[1].relation"),
        ("malformed_entity", "entities[3]"),
        ("truncated_image", "image"),
        ("malformed_relations", "relations"),
        ("something_new", "json"),
    ],
)
def test_field_of_a_reason(reason, expected):
    good = entity([1, 2, 3, 4])
    relations = [{"subject": 0, "relation": "on", "object": 0}, {"subject": 0, "relation": " ", "object": 0}]
    entities = [good, entity([3, 2, 3, 4]), entity([1, 2, 3, 4], " "), 7]
    if reason == "empty_relation":
        entities = [good]
    assert field_of(reason, {"entities": entities, "relations": relations}) == expected


def recipe_file(tmp_path, shards, **stream_options):
    path = tmp_path / "recipe.yaml"
    options = {"kind": "captions", "datasets": {"small": shards}, "batch_size": 8, "objectives": ["itc"]}
    data = {"tokenizer": tokenizer(tmp_path), "image_size": 32, "streams": {"captions": options | stream_options}}
    path.write_text(json.dumps({"trainer": {"max_steps": 9}, "model": {}, "data": data}))
    return str(path)


def test_the_command_tells_and_writes_everything(faulty, tmp_path, capsys):
    out = tmp_path / "out" / "found.json"
    assert main(["data", "doctor", faulty, "--out", str(out), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    for text in ("faulty/f", "entities[1].box", "truncated_image", "more than the 5.00% allowed"):
        assert text in printed
    state = json.loads(out.read_text())
    assert not state["ok"]
    assert len(state["datasets"]["shards"]["bad"]) == 10
    assert state["datasets"]["shards"]["streams"]["graphs"]["bad"] == 5
    assert main(["data", "doctor", faulty, "--max-bad", "0.9", "--workers", "1"]) == 0


def test_the_command_says_what_steps_and_ranks_take(tmp_path, capsys):
    shards = write_shards(tmp_path / "s", 24)
    recipe = recipe_file(tmp_path, shards)
    assert main(["data", "doctor", "-c", recipe, "--ranks", "2", "--num-workers", "1", "--workers", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "an epoch is 24 samples, 3 batches of 8, 4 on each of 2 ranks; 9 steps take 72 samples, 3.00 epochs" in printed
    )
    assert "2 ranks with 1 worker each can be served" in printed
    assert main(["data", "doctor", "-c", recipe, "--ranks", "3", "--workers", "1"]) == 1
    assert "must be a multiple of their number, 3" in capsys.readouterr().out
    assert main(["data", "doctor", "-c", recipe, "--num-workers", "9", "--workers", "1"]) == 1
    assert "more workers than the shards can serve" in capsys.readouterr().out


def test_shards_in_place_of_those_of_a_recipe(tmp_path, capsys):
    shards = write_shards(tmp_path / "s", 24)
    recipe = recipe_file(tmp_path, str(tmp_path / "nowhere"))
    assert main(["data", "doctor", shards, "-c", recipe, "--workers", "1"]) == 0
    assert "captions from shards: an epoch is 24 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name shards, or a recipe with -c"),
        (["{}/absent"], "matches no file"),
        (["{}/text.tar"], "text.tar is not an uncompressed tar file"),
        (["{}/text.tar", "--ranks", "0"], "argument --ranks: must be at least 1, got 0"),
        (["-c", "{}/absent.yaml"], "absent.yaml does not exist"),
        (["-c", "{}/text.tar"], "has no settings under 'data'"),
        (["-c", "{}/wrong.yaml"], "data of recipe"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, capsys, words, message):
    (tmp_path / "text.tar").write_text("not a tar")
    (tmp_path / "wrong.yaml").write_text("data: {tokenizer: a, stream: {}}")
    assert main(["data", "doctor", *(word.format(tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.realdata
def test_real_vrd_and_its_known_tiny_box(realdata, tmp_path, capsys):
    folder = realdata / "vrd"
    words = ["--images", f"{folder}/images", "--annotations", f"{folder}/annotations_test.json"]
    assert main(["data", "convert", "vrd", *words, "--out", str(tmp_path / "vrd"), "--workers", "1"]) == 0
    found = examine("vrd", sorted(map(str, (tmp_path / "vrd").glob("*.tar"))), plain_judges())
    source = json.loads((folder / "derived_vg_style_60images.json").read_text())
    assert found.bad == []
    assert found.eligible == {"regions": 60, "graphs": 60}
    assert sum(found.counts.relations.values()) == 604  # 621 with the 17 that are annotated twice
    assert len(source) == 60
    assert found.counts.boxes["tiny"] == 1


def test_broken_characters_are_named(tmp_path, capsys):
    texts = {
        "captions": ["a cat", "best day \ud83d", None],
        "entities": [entity([1, 2, 3, 4], "dog \ud83d")],
        "relations": [{"subject": 0, "relation": "on \ud83d", "object": 0}],
    }
    with tarfile.open(tmp_path / "h.tar", "w") as tar:
        for name, content in (("a.png", picture(0)), ("a.json", changed(0, **texts))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert main(["data", "doctor", str(tmp_path / "h.tar"), "--out", str(tmp_path / "d.json")]) == 0
    assert capsys.readouterr().out.count("with a broken character") == 2
    (state,) = json.loads((tmp_path / "d.json").read_text())["datasets"].values()
    assert (state["captions"]["with a broken character"], state["captions"]["no text"]) == (1, 1)
    assert state["names"] == {"with a broken character": 2}
    assert [place.rpartition("/")[2] for place in state["examples"]["name with a broken character"]] == [
        "a entities[0]",
        "a relations[0]",
    ]


def test_entities_without_a_box_are_no_degenerate_ones(tmp_path, capsys):
    content = record(0)
    del content["entities"][2]["box"]
    content["relations"][0] |= {"source": "p 1", "confidence": 0.5}
    with ShardWriter(tmp_path / "g") as writer:
        writer.write("a", picture(), "png", content)
        writer.write("b", picture(1), "png", record(1) | {"relations": [{"subject": 0, "relation": "on", "object": 1,
                                                                        "confidence": 2}]})  # fmt: skip
    out = tmp_path / "d.json"
    assert main(["data", "doctor", str(tmp_path / "g"), "--out", str(out), "--workers", "1", "--max-bad", "1"]) == 0
    told = capsys.readouterr().out
    assert "1 entities without a box, 2 relations without two boxes" in told
    (found,) = json.loads(out.read_text())["datasets"].values()
    assert found["boxes"] == {"boxes": 5}
    assert found["relation_sources"] == {"annotated": 3, "p 1": 1}
    bad = {(b["key"], b["field"], b["reason"]) for b in found["bad"]}
    assert bad == {("b", "relations[0].confidence", "malformed_confidence")}
