"""Relations outside MRC's vocabulary are counted, and told by schedule, doctor and graph_loader, and at the end."""

import itertools
import json
import warnings
from types import SimpleNamespace

import pytest

from relpretrain import RelationVocabulary, graph_loader
from relpretrain.cli import main
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.sampling.outside import relation_counts
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.objectives import MRC, VSG
from tests.data.shards.test_row_index import write_tar
from tests.data.small import record, stream, tokenizer, write_shards

NEVER = "give it a vocabulary that has them"


def index(folder):
    return [ShardIndex.of(str(path)) for path in sorted(folder.glob("*.tar"))]


@pytest.fixture
def world(tmp_path):
    """24 images, each with "beside", "on" and "under"."""
    return write_shards(tmp_path / "shards"), tokenizer(tmp_path)


def data_module(world, streams, objectives):
    data = RelationDataModule(streams, world[1], image_size=32)
    module = SimpleNamespace(objectives=objectives, backbone=None)
    data.trainer = SimpleNamespace(
        lightning_module=module, max_steps=9, accumulate_grad_batches=1, training=True, datamodule=data
    )
    return data


def mrc(*names, **options):
    return MRC(RelationVocabulary(names, **options))


def test_an_index_counts_relations_and_keeps_them(world, tmp_path, monkeypatch):
    expected = {"beside": 24, "on": 24, "under": 24}
    assert relation_counts(index(tmp_path / "shards")) == expected
    monkeypatch.setattr("relpretrain.data.shards.row_index.scan", None)  # what is stored is enough
    assert relation_counts(index(tmp_path / "shards")) == expected


def test_odd_relations_are_left_to_those_who_count_bad_samples(tmp_path):
    relations = [{"relation": "on"}, {"relation": 7}, {"relation": " "}, {}, "on", {"relation": "\ud800"}]
    content = json.dumps({**record(0), "relations": relations}).encode()
    write_tar(tmp_path / "x.tar", [("a.png", b"x"), ("a.json", content)])
    for _ in range(2):  # made, then stored
        assert relation_counts(index(tmp_path)) == {"on": 1, "\ufffd": 1}


def test_the_plan_tells_and_warns(world, capsys):
    streams = {
        "mrc": stream("graphs", world[0], objectives=["mrc"]),
        "vsg": stream("graphs", world[0], objectives=["vsg"]),
    }
    data = data_module(world, streams, {"mrc": mrc("on"), "vsg": VSG()})
    with pytest.warns(UserWarning, match=r"MRC never learns 67 % of the relations of small \(stream mrc\): give it"):
        data.setup()
    lines = capsys.readouterr().out.splitlines()
    told = [number for number, line in enumerate(lines) if "outside MRC's vocabulary" in line]
    assert [lines[i] for i in told] == [
        "    small: 48 of 72 relations (67 %) outside MRC's vocabulary: beside 24, under 24"
    ]
    assert NEVER in lines[told[0] + 1]
    assert lines[told[0] + 2].startswith("  vsg: ")


def test_each_dataset_of_a_stream_has_its_line(world, tmp_path, capsys):
    other = write_shards(tmp_path / "other", 5, graph=True)
    both = stream("graphs", world[0], objectives=["mrc"])
    both.datasets = {"small": world[0], "other": other}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "MRC never learns")  # a third is not above a third
        data_module(world, {"graphs": both}, {"mrc": mrc("on", "beside")}).setup()
    printed = capsys.readouterr().out
    assert "    small: 24 of 72 relations (33 %) outside MRC's vocabulary: under 24\n" in printed
    assert "    other: 5 of 15 relations (33 %) outside MRC's vocabulary: under 5\n" in printed
    assert printed.count(NEVER) == 1


def test_aliases_are_in_the_vocabulary(world, capsys):
    known = mrc("on", "beside", aliases={"under": "on"})
    data_module(world, {"graphs": stream("graphs", world[0], objectives=["mrc"])}, {"mrc": known}).setup()
    assert "outside" not in capsys.readouterr().out


def test_what_was_never_drawn_is_reported(world):
    still = {"min_scale": 1.0, "flip": 0.0, "max_tokens": 60}
    streams = {
        "mrc": stream("graphs", world[0], objectives=["mrc"], **still),
        "vsg": stream("graphs", world[0], objectives=["vsg"], **still),
    }
    data = data_module(world, streams, {"mrc": mrc("on", "beside"), "vsg": VSG()})
    data.setup()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in itertools.islice(data.train_dataloader(), 20)]
    drawn = [batch for batch in batches if batch.stream == "mrc"]
    assert {name for batch in drawn for name in batch.relations} == {"on", "beside"}
    assert data.report() == {"small": {"part: relation_outside_vocabulary": 4 * len(drawn)}}
    assert f"small: relation_outside_vocabulary: {4 * len(drawn)} times, in part" in data.bad_samples.lines()[0]


def test_triplets_without_room_in_the_text_are_reported(world):
    short = stream("graphs", world[0], objectives=["vsg"], max_tokens=7, min_scale=1.0, flip=0.0)
    data = data_module(world, {"graphs": short}, {"vsg": VSG()})
    data.setup()
    for batch in itertools.islice(data.train_dataloader(), 3):
        data.on_after_batch_transfer(batch, 0)
    assert data.report()["small"]["part: triplet_too_long"] == 3 * 4 * 2  # one of three fits


def test_graph_loader_tells_for_its_vocabulary(world, tmp_path, capsys):
    RelationVocabulary(["on", "under"]).save(tmp_path / "v.json")
    loader = graph_loader(*world, 4, 32, vocabulary=str(tmp_path / "v.json"))
    assert capsys.readouterr().out.splitlines()[0] == (
        "graphs: 24 of 72 relations (33 %) outside MRC's vocabulary: beside 24"
    )
    assert loader.relation_counts == {"graphs": {"beside": 24, "on": 24, "under": 24}}
    with pytest.warns(UserWarning, match="MRC never learns 67 % of the relations of graphs"):
        graph_loader(*world, 4, 32, vocabulary=RelationVocabulary(["under"]))
    capsys.readouterr()
    graph_loader(*world, 4, 32)
    assert capsys.readouterr().out == ""


def recipe_file(tmp_path, world, mrc):
    path = tmp_path / "recipe.yaml"
    settings = {"kind": "graphs", "datasets": {"small": world[0]}, "batch_size": 8, "objectives": ["mrc"]}
    data = {"tokenizer": world[1], "image_size": 32, "streams": {"graphs": settings}}
    path.write_text(json.dumps({"model": {"objectives": {"mrc": mrc}}, "data": data}))
    return str(path)


def test_the_doctor_tells(world, tmp_path, capsys):
    RelationVocabulary(["on"]).save(tmp_path / "v.json")
    own = {"class_path": "MRC", "init_args": {"vocabulary": str(tmp_path / "v.json")}}
    recipe = recipe_file(tmp_path, world, own)
    out = tmp_path / "found.json"
    assert main(["data", "doctor", "-c", recipe, "--workers", "1", "--out", str(out)]) == 0
    assert "small: 48 of 72 relations (67 %) outside MRC's vocabulary: beside 24, under 24" in capsys.readouterr().out
    found = json.loads(out.read_text())["datasets"]["small"]["outside_vocabulary"]
    assert found == {
        "vocabulary": "MRC's vocabulary",
        "known": 24,
        "unknown": 48,
        "relations": {"beside": 24, "under": 24},
    }
    assert main(["data", "doctor", world[0], "--workers", "1", "--vocabulary", str(tmp_path / "v.json")]) == 0
    assert f"(67 %) outside MRC's vocabulary {tmp_path / 'v.json'}: " in capsys.readouterr().out
    assert main(["data", "doctor", world[0], "--workers", "1"]) == 0
    assert "shards: all 72 relations are in MRC's vocabulary gqa" in capsys.readouterr().out


@pytest.mark.parametrize("default", ["MRC", {"class_path": "relpretrain.objectives.MRC"}])
def test_the_doctor_knows_mrcs_default(world, tmp_path, capsys, default):
    assert main(["data", "doctor", "-c", recipe_file(tmp_path, world, default), "--workers", "1"]) == 0
    assert "small: all 72 relations are in MRC's vocabulary" in capsys.readouterr().out
    assert len(MRC().vocabulary) == 310


def test_a_vocabulary_that_is_not_there_is_a_problem(world, tmp_path, capsys):
    recipe = recipe_file(tmp_path, world, {"class_path": "MRC", "init_args": {"vocabulary": "absent.json"}})
    assert main(["data", "doctor", "-c", recipe, "--workers", "1"]) == 1
    assert "PROBLEM: no relation vocabulary 'absent.json'" in capsys.readouterr().out


@pytest.mark.realdata
def test_the_vrd_photos(realdata, tmp_path, capsys, monkeypatch):
    """What a user types: convert, then doctor; 247 of 604 relations are outside MRC's default."""
    monkeypatch.chdir(tmp_path)
    vrd = realdata / "vrd"
    words = ["--images", f"{vrd}/images", "--annotations", f"{vrd}/annotations_test.json"]
    assert main(["data", "convert", "vrd", *words, "--out", "vrd", "--workers", "1", "--top-relations", "5"]) == 0
    assert "vrd: 259 of 604 relations (43 %) outside relations.json: " in capsys.readouterr().out
    assert main(["data", "doctor", "vrd", "--workers", "1"]) == 0
    assert "vrd: 247 of 604 relations (41 %) outside MRC's vocabulary gqa: wear 81, has 49," in (
        capsys.readouterr().out
    )
    with pytest.warns(UserWarning, match="MRC never learns 41 % of the relations of vrd"):
        graph_loader({"vrd": "vrd"}, str(realdata / "bert"), 4, 32, vocabulary="gqa")
    assert "vrd: 247 of 604 relations (41 %) outside MRC's vocabulary: wear 81, " in capsys.readouterr().out
