"""Several processes score together: shares of the items, and the same result as one process gives."""

import json

import pytest
import torch

from relpretrain.zeroshot import ranks
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.scorers.blind import LengthScorer
from relpretrain.zeroshot.tasks import Source
from relpretrain.zeroshot.tasks.common.base import Item
from tests import two_ranks
from tests.zeroshot.folders import write_folders
from tests.zeroshot.more_folders import write_more_folders

TASKS = ("valse", "winoground", "whatsup", "sugarcrepe_pp", "fgovd", "urban1k", "classification", "predcls")


class Short(LengthScorer):
    """Says which texts it would have cut."""

    max_tokens = 9

    def rate(self, texts):
        self.note_lengths(texts, [min(len(text), 9) for text in texts])
        return super().rate(texts)


def lines(scorer, folder):
    ready, _ = prepare(TASKS, Source(folder, blind=True))
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


def test_two_ranks_give_what_one_gives(tmp_path):
    write_more_folders(write_folders(tmp_path))
    two_ranks.run(score, tmp_path)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1] == json.loads(json.dumps(lines(Short(), tmp_path)))
    assert any("different text" in note and "; 0 " not in note for *_, notes in found[0] for note in notes)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_neighbours_and_keep_groups_whole(monkeypatch, world):
    groups = ["a", "a", None, "b", None, "b", "c"]
    items = [Item(str(n), ("x",), ({"label": n},), group=g) for n, g in enumerate(groups)]
    monkeypatch.setattr(ranks, "world_size", lambda: world)
    shares = []
    for number in range(world):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        shares.append(ranks.own_share(items))
    assert sorted(n for share in shares for n in share) == list(range(7))
    assert all(share == sorted(share) for share in shares)
    for members in ((0, 1), (3, 5)):
        assert sum(bool(set(members) & set(share)) for share in shares) == 1
    assert ranks.own_share([]) == []


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert ranks.own_device() == "cuda"
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    assert ranks.own_device() == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ranks.own_device() == "cpu"
