"""Several processes score together: each has a share of the work, and all the result that one process gives."""

import json

import pytest
import torch

from relpretrain.checkpoints.checkpoint import load
from relpretrain.zeroshot import ranks
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.scorers.blind import LengthScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common import base, shares
from relpretrain.zeroshot.tasks.retrieval import ranking
from tests import two_ranks
from tests.zeroshot.folders import dump, write_folders
from tests.zeroshot.helpers import COLOURS
from tests.zeroshot.more_folders import write_all_folders, write_more_folders

ALL = tuple(name for name in TASKS if name not in ("graphs", "grounding"))  # both need a model


class Short(LengthScorer):
    """Says which texts it would have cut."""

    max_tokens = 9

    def rate(self, texts):
        self.note_lengths(texts, [min(len(text), 9) for text in texts])
        return super().rate(texts)


def lines(scorer, folder):
    ready, _ = prepare(ALL, Source(folder, blind=True))
    return [[part.task.name, part.split, part.records, part.notes] for part in evaluate(scorer, ready)]


def score(rank, folder):
    (folder / f"{rank}.json").write_text(json.dumps(lines(Short(), folder)))
    ready, _ = prepare(["valse"], Source(folder, blind=True))

    class Failing(Short):
        def rate(self, texts):
            if rank == 1:
                raise ValueError("no memory left")
            return super().rate(texts)

    with pytest.raises(ValueError, match="no memory left"):  # in both: none waits for the other
        evaluate(Failing(), ready)


def test_two_ranks_give_what_one_gives_on_every_task(tmp_path):
    write_all_folders(tmp_path)
    two_ranks.run(score, tmp_path)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1] == json.loads(json.dumps(lines(Short(), tmp_path)))
    assert any("different text" in note and "; 0 " not in note for *_, notes in found[0] for note in notes)


SMALL = ((base, "_CHUNK", 2), (ranking, "CHUNK", 2), (ranking, "_QUERIES", 3), (shares, "_TEXTS", 4))
SHARED = ("valse", "sugarcrepe_pp", "coco_retrieval", "classification", "predcls")


class Counting(MatchScorer):
    """Counts the images and texts that it encodes."""

    images = texts = 0

    def encode_images(self, images):
        self.images += len(images)
        return super().encode_images(images)

    def embed_texts(self, texts):
        self.texts += len(texts)
        return super().embed_texts(texts)


def with_a_model(out, checkpoint, folder, world):
    """Score in small units; returns what was encoded, and all lines, of both of them two ways."""
    for module, name, size in SMALL:
        setattr(module, name, size)
    loaded = load(checkpoint)
    scorer = Counting(loaded.backbone, loaded.preprocess, objectives=loaded.objectives, batch_size=4)
    ready = prepare(SHARED, Source(folder))[0] + prepare(["graphs"], Source(world))[0]
    scored = evaluate(scorer, ready, out)
    scorer.objectives = {}  # relation classification by matching
    scored += evaluate(scorer, [part for part in ready if part.task.name == "predcls"])
    return scorer.images, scorer.texts, [[part.records, part.notes] for part in scored]


def in_a_rank(rank, out, *where):
    return with_a_model(out / str(rank), *where)


def test_two_ranks_share_collections_texts_and_graphs(tmp_path, world, checkpoint, monkeypatch):
    folder = write_more_folders(write_folders(tmp_path / "data"))
    captions = [{"image": f"{name}.png", "caption": [name, f"it is {name}", "red"]} for name in COLOURS]
    dump(folder / "coco_retrieval" / "coco_test.json", captions)
    for module, name, size in SMALL:
        monkeypatch.setattr(module, name, size)
    where = checkpoint, folder, world
    found = two_ranks.run(in_a_rank, tmp_path, *where)
    images, texts, lines = with_a_model(tmp_path / "alone", *where)
    assert found[0][2] == found[1][2] == lines
    for number, total in ((0, images), (1, texts)):
        assert found[0][number] + found[1][number] == total  # none is encoded by both
        assert found[0][number]
        assert found[1][number]
    files = sorted(path.name for path in (tmp_path / "alone" / "scores").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "0" / "scores").iterdir())
    assert not (tmp_path / "1").exists()
    for name in files:
        one, two = ((tmp_path / place / "scores" / name).read_bytes() for place in ("alone", "0"))
        assert one == two


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert ranks.own_device() == "cuda"
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    assert ranks.own_device() == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ranks.own_device() == "cpu"
