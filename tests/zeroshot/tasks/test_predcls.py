"""Relation classification: ranks and recalls against loops in the manner of the official code, and the files."""

import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from relpretrain.backbones import XVLM
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.objectives import MRC
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.zeroshot.scorers import MatchScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.relations.graph_files import _vg150_split, read_splits
from relpretrain.zeroshot.tasks.relations.recall import interchangeable, mean_recall, overlaps, ranks, recall
from tests.zeroshot.folders import dump, write_predcls

PREDCLS = TASKS["predcls"]


def graph(seed, n=6, relations=4, triplets=8, levels=10**6):
    """Entities of two names with boxes of which some overlap, random triplets, and scores of all pairs."""
    rng = np.random.default_rng([seed, levels])
    low = rng.integers(0, 6, (n, 2))
    boxes = torch.from_numpy(np.hstack([low, low + rng.integers(2, 5, (n, 2))])).double()
    labels = rng.integers(0, 2, n)
    pairs = torch.tensor([(a, b) for a in range(n) for b in range(n) if a != b])
    truth = torch.from_numpy(
        np.hstack([pairs[rng.integers(len(pairs), size=triplets)], rng.integers(0, relations, (triplets, 1))])
    )
    scores = torch.from_numpy(rng.integers(0, levels, (len(pairs), relations)) / levels)
    same = torch.from_numpy(labels[:, None] == labels[None]) & (overlaps(boxes) >= 0.5)
    return scores, pairs, truth, same | torch.eye(n, dtype=torch.bool)


def match_lists(scores, pairs, truth, same, constraint):
    """The triplets that each prediction hits, best first, as the official evaluation lists them."""
    predictions = []
    for row, pair in enumerate(pairs.tolist()):
        options = [int(scores[row].argmax())] if constraint else range(scores.shape[1])
        predictions += [(float(scores[row, relation]), *pair, relation) for relation in options]
    predictions.sort(key=lambda p: -p[0])
    return [
        [g for g, (s, o, r) in enumerate(truth.tolist()) if r == relation and same[s, subject] and same[o, target]]
        for _, subject, target, relation in predictions[:100]
    ]


@pytest.mark.parametrize("constraint", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_recall_is_that_of_the_official_loop(seed, constraint):
    scores, pairs, truth, same = graph(seed)
    found = ranks(scores, pairs, truth, same, constraint)
    lists = match_lists(scores, pairs, truth, same, constraint)
    for k in (1, 5, 20, 50, 100):
        hit = set().union(*lists[:k])
        assert [rank is not None and rank <= k for rank in found] == [g in hit for g in range(len(truth))]


def worst(scores, pairs, truth, same, constraint):
    """Ranks when every tie is broken against the triplet, by counting."""
    found = []
    for subject, target, relation in truth.tolist():
        best = None
        for row, (a, b) in enumerate(pairs.tolist()):
            if not (same[subject, a] and same[target, b]):
                continue
            mine = float(scores[row, relation])
            if constraint:
                if any(float(scores[row, r]) >= mine for r in range(scores.shape[1]) if r != relation):
                    continue
                rank = sum(max(line) >= mine for line in scores.tolist())
            else:
                rank = sum(value >= mine for value in itertools.chain(*scores.tolist()))
            best = rank if best is None else min(best, rank)
        found.append(best if best is not None and best <= 100 else None)
    return found


@pytest.mark.parametrize("constraint", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_ties_count_against_the_model_in_any_order(levels, constraint):
    scores, pairs, truth, same = graph(0, levels=levels)
    expected = worst(scores, pairs, truth, same, constraint)
    assert ranks(scores, pairs, truth, same, constraint) == expected
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(pairs)))
    assert ranks(scores[order], pairs[order], truth, same, constraint) == expected
    if levels == 1:
        assert constraint is False or set(expected) == {None}


def test_relations_that_cannot_be_predicted_are_missed():
    scores, pairs, truth, same = graph(2)
    scores[:, 1] = -torch.inf
    found = ranks(scores, pairs, truth, same, False)
    assert all(rank is None for rank, (*_, relation) in zip(found, truth.tolist(), strict=True) if relation == 1)
    assert any(rank is not None for rank in found)


def test_overlaps_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    assert overlaps(boxes).tolist() == [
        [1.0, pytest.approx(1 / 3), 0.0],
        [pytest.approx(1 / 3), 1.0, 0.0],
        [0.0, 0.0, 1.0],
    ]


def test_entities_of_one_name_that_overlap_by_half_stand_for_each_other():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [0, 0, 10, 10], [3, 3, 3, 3]])
    same = interchangeable(["cup", "cup", "cup", "mug", "cup"], boxes)
    assert same[0].tolist() == [True, True, False, False, False]
    assert same.diagonal().all()  # a box without area, too
    assert (same == same.T).all()


def test_recalls_by_hand():
    hits, images = [True, False, True, True], ["a", "a", "a", "b"]
    relations = ["on", "on", "in", "on"]
    assert recall(hits, images) == [pytest.approx(2 / 3), 1.0]
    # "on": 1/2 in a and 1 in b; "in": 1 in a
    assert mean_recall(hits, images, relations) == pytest.approx(((1 / 2 + 1) / 2 + 1) / 2)
    assert np.isnan(mean_recall([], [], []))


def records(seed, images=12):
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(images * 5):
        rank = int(rng.integers(1, 140))
        lines.append(
            {"id": number, "image": f"{number % images}.jpg", "relation": ["on", "in", "by"][rng.integers(3)]}
            | {
                "zero_shot": bool(rng.random() < 0.3),
                "rank": rank if rank <= 100 else None,
                "free_rank": max(1, rank // 3),
            }
            | {"known": True, "by": "mrc", "pairs": "all", "label": "x", "task": "predcls"}
        )
    return lines


@pytest.mark.parametrize("key", ["rank", "free_rank"])
def test_tables_are_those_of_loops(key):
    lines = records(0)
    table = PREDCLS.tables(lines, "vrd/all")[0 if key == "rank" else 1]
    found = {row.category: row.accuracy for row in table.rows}
    for k in (20, 50, 100):
        per_image, unseen, by_relation = {}, {}, {}
        for line in lines:
            hit = line[key] is not None and line[key] <= k
            per_image.setdefault(line["image"], []).append(hit)
            by_relation.setdefault(line["relation"], {}).setdefault(line["image"], []).append(hit)
            if line["zero_shot"]:
                unseen.setdefault(line["image"], []).append(hit)
        assert found[f"R@{k}"] == pytest.approx(np.mean([np.mean(v) for v in per_image.values()]))
        assert found[f"zR@{k}"] == pytest.approx(np.mean([np.mean(v) for v in unseen.values()]))
        assert found[f"mR@{k}"] == pytest.approx(
            np.mean([np.mean([np.mean(v) for v in images.values()]) for images in by_relation.values()])
        )


def test_zero_shot_recall_needs_training_triplets():
    lines = [{**line, "zero_shot": None} for line in records(1)]
    table = PREDCLS.summarise(lines)
    assert [row.category for row in table.rows] == ["R@20", "R@50", "R@100", "mR@20", "mR@50", "mR@100"]
    assert any("needs the training split" in note for note in table.notes)


def test_vrd_is_read_with_its_order_of_corners(tmp_path):
    write_predcls(tmp_path)
    split = read_splits(tmp_path / "predcls")["vrd"]
    first, second = split.images  # c.png has no triplets
    assert first.boxes[3] == (3.0, 0.0, 4.0, 4.0)
    assert first.triplets[0] == (0, 1, "on")
    assert sum(first.zero_shot) == 9  # training knows three of the twelve
    assert second.zero_shot == (True,)
    items = PREDCLS.items(Source(tmp_path, splits=("all", "annotated")))
    assert list(items) == ["vrd/all", "vrd/annotated"]
    assert [len(item.ends()) for item in items["vrd/all"]] == [132, 2]
    assert [len(item.ends()) for item in items["vrd/annotated"]] == [12, 1]
    assert [item.first for item in items["vrd/all"]] == [0, 12]
    assert list(PREDCLS.items(Source(tmp_path))) == ["vrd/all"]


@pytest.mark.realdata
def test_counts_of_the_real_files(realdata, tmp_path):
    (tmp_path / "predcls").mkdir()
    for name in ("annotations_test", "objects", "predicates"):
        (tmp_path / "predcls" / f"{name}.json").symlink_to(realdata / "vrd" / f"{name}.json")
    split = read_splits(tmp_path / "predcls")["vrd"]
    assert len(split.images) == 955  # of 1,000; 45 have no triplets
    assert sum(len(image.triplets) for image in split.images) == 7638 - 26
    assert split.notes == ("left out: relation of itself 26",)
    assert len(split.relations) == 70


def test_gqa_is_read_with_its_vocabulary(tmp_path):
    thing = {"x": 1, "y": 2, "w": 3, "h": 4, "attributes": []}
    relations = [{"name": "to the left of", "object": "2"}, {"name": "unheard of", "object": "2"}]
    objects = {"1": {**thing, "name": "cat", "relations": relations}, "2": {**thing, "name": "dog", "relations": []}}
    state = {"7": {"width": 9, "height": 9, "objects": objects}}
    dump(tmp_path / "val_sceneGraphs.json", state)
    split = read_splits(tmp_path)["gqa"]
    assert split.images[0].image == "7.jpg"
    assert split.images[0].triplets == ((0, 1, "to the left of"),)
    assert split.images[0].boxes[0] == (1.0, 2.0, 4.0, 6.0)
    assert split.images[0].zero_shot == ()
    assert len(split.relations) == 310
    assert split.notes == ("left out: relation outside the vocabulary 1",)
    dump(tmp_path / "train_sceneGraphs.json", state)
    assert read_splits(tmp_path)["gqa"].images[0].zero_shot == (False,)


def test_vg150_is_read_from_centres_at_1024():
    names = {"idx_to_label": {"1": "cat", "2": "dog"}, "idx_to_predicate": {"1": "on", "2": "near"}}
    images = [{"image_id": i, "width": 512, "height": 256} for i in (1592, 10, 11, 12)]  # 1592 is not in the table
    table = {
        "split": [0, 2, 2],
        "img_to_first_box": [0, 2, -1],
        "img_to_last_box": [1, 3, -1],
        "img_to_first_rel": [0, 1, -1],
        "img_to_last_rel": [0, 2, -1],
        "boxes_1024": [[100, 100, 20, 40]] * 4,
        "labels": [[1], [2], [1], [2]],
        "relationships": [[0, 1], [2, 3], [3, 2]],
        "predicates": [[1], [1], [2]],
    }
    split = _vg150_split({key: np.array(value) for key, value in table.items()}, names, images)
    (image,) = split.images
    assert image.image == "11.jpg"
    assert image.labels == ("cat", "dog")
    assert image.boxes[0] == (45.0, 40.0, 55.0, 60.0)
    assert image.triplets == ((0, 1, "on"), (1, 0, "near"))
    assert image.zero_shot == (False, True)  # "cat on dog" is in training
    assert split.relations == ("on", "near")
    with pytest.raises(ValueError, match=r"VG150's table is of 3 images, image_data.json of 2"):
        _vg150_split({key: np.array(value) for key, value in table.items()}, names, images[:3])


@pytest.fixture(scope="module")
def model(world):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(world / "tokenizer")
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(tokenizer))
    mrc = MRC(RelationVocabulary(["next to", "above", "on"]))
    mrc.attach(backbone)
    return backbone, Preprocess(tokenizer, image_size=32), mrc


def scored(tmp_path, scorer, split="all"):
    write_predcls(tmp_path)
    source = Source(tmp_path, splits=(split,))
    (items,) = PREDCLS.items(source).values()
    items, _ = PREDCLS.locate(items, source)
    return items, PREDCLS.score(scorer, items)


def test_an_mrc_head_classifies_every_pair_by_the_relations_of_the_data(tmp_path, model):
    backbone, preprocess, mrc = model
    items, found = scored(tmp_path, MatchScorer(backbone, preprocess, objectives={"mrc": mrc}))
    assert [record["id"] for record in found] == list(range(13))
    assert {record["by"] for record in found} == {"mrc"}
    assert all(record["known"] for record in found)
    # By hand: the two entities of the second image, each seen alone.
    from relpretrain.zeroshot.tasks.relations.predcls import _classify

    scorer = MatchScorer(backbone, preprocess, objectives={"mrc": mrc})
    scores = _classify(scorer, mrc, items[1])
    assert scores.shape == (2, 2)
    assert scores.exp().sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    best = max((float(scores[row, r]), row, r) for row in range(2) for r in range(2))
    right = best[1:] == (0, 1)  # "thing 0 next to thing 1"
    assert (found[12]["free_rank"] == 1) == right


def test_relations_that_the_head_does_not_know_are_said(tmp_path, model):
    backbone, preprocess, _ = model
    mrc = MRC(RelationVocabulary(["on", "above"]))
    mrc.attach(backbone)
    _, found = scored(tmp_path, MatchScorer(backbone, preprocess, objectives={"mrc": mrc}))
    assert [record["known"] for record in found] == [True] * 12 + [False]
    assert found[12]["rank"] is None
    assert any("counted as missed: 1 relation with 1 triplet" in note for note in PREDCLS.summarise(found).notes)


class Prefers:
    """Likes texts with a word, and parts of images that are wide."""

    def __init__(self, word):
        self.word, self.sizes, self.texts = word, [], []

    def encode_images(self, images):
        self.sizes += [image.size for image in images]
        return [image.size[0] for image in images]

    def score(self, features, index, texts):
        self.texts += texts
        return torch.tensor(
            [[0.0, features[i] + (100.0 if self.word in text else 0.0)] for i, text in zip(index, texts, strict=True)]
        )


def test_a_scorer_of_pairs_reads_a_text_per_relation_at_the_union_of_the_boxes(tmp_path):
    scorer = Prefers("next to")
    _, found = scored(tmp_path, scorer, "annotated")
    assert scorer.texts[:2] == ["thing 0 on thing 1", "thing 0 next to thing 1"]
    assert scorer.sizes[0] == (2, 4)  # two boxes side by side, a pixel each
    assert scorer.sizes[11] == (12, 4)  # from the last thing back to the first
    assert [record["rank"] for record in found] == [None] * 12 + [1]  # "on" is never a pair's best
    assert found[11]["free_rank"] == 13  # after the twelve "next to"


def test_no_known_files_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"holds no graphs: no VG-SGG-with-attri.h5"):
        read_splits(tmp_path)
    (tmp_path / "x.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="reads a folder"):
        PREDCLS.items(Source(tmp_path / "x.json"))


@pytest.mark.parametrize(
    ("predicates", "side", "message"),
    [
        (["on", "next to"], None, r"The box of 'thing \d+' in .* must be four numbers, not \[.*(None|nan)"),
        ([], 4, "has a relation with a known name; left out: "),
    ],
)
def test_annotations_without_boxes_or_known_relations_are_refused(tmp_path, predicates, side, message):
    write_predcls(tmp_path)
    dump(tmp_path / "predcls" / "predicates.json", predicates)
    path = tmp_path / "predcls" / "annotations_test.json"
    triplets = json.loads(path.read_text())
    next(iter(triplets.values()))[0]["object"]["bbox"][3] = side
    dump(path, triplets)
    with pytest.raises(ValueError, match=message):
        PREDCLS.items(Source(tmp_path))


def test_tables_that_are_not_those_of_vg150_are_named(tmp_path, monkeypatch):
    class File(dict):
        def __init__(self, path, mode):
            super().__init__(split=np.array([2]))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=File))
    (tmp_path / "VG-SGG-with-attri.h5").write_bytes(b"any")
    dump(tmp_path / "VG-SGG-dicts-with-attri.json", {"idx_to_label": {}, "idx_to_predicate": {}})
    dump(tmp_path / "image_data.json", [{"image_id": 1, "width": 9, "height": 9}])
    with pytest.raises(ValueError, match="are not those of VG150: KeyError: 'img_to_first_box'"):
        read_splits(tmp_path)
