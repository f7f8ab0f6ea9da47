"""What every task gives a scorer that knows nothing: one that says the same of all pairs, and one that guesses."""

from collections import defaultdict
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from relpretrain.checkpoints.checkpoint import load
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.evaluate import prepare
from relpretrain.zeroshot.report.terminal import read_report
from relpretrain.zeroshot.scorers import ConstantScorer, MatchScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.more_folders import write_all_folders

ANSWERS = 400
"""That are drawn at least, to each question; half as many where every draw is scored again."""


class Guesser(ConstantScorer):
    """Draws a score for each pair, and a direction for each image and text."""

    fuses = False

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def score(self, image_features, index, texts):
        return torch.stack([torch.zeros(len(texts)), self.draw(len(texts))], dim=1)

    def embed_images(self, image_features):
        return F.normalize(self.draw(len(image_features), 64), dim=1)

    def embed_texts(self, texts):
        return F.normalize(self.draw(len(texts), 64), dim=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_all_folders(tmp_path_factory.mktemp("known") / "data")


def shares(task, split, records):
    """Right and all answers by question."""
    found = defaultdict(list)
    for outcome in task.outcomes(records).values():
        found[f"{split} {outcome.category if task.several else ''}".strip()].append(outcome.correct)
    return {name: (sum(right), len(right)) for name, right in found.items()}


HALF, THIRD, FOURTH, FIFTH = (Fraction(1, n) for n in (2, 3, 4, 5))
SQUARE = {"group": (0, Fraction(1, 6)), "text": (0, FOURTH), "image": (0, FOURTH), "GroupMatch": (0, HALF)}
LONG = {f"test {way}R@{k}": (int(k > 1), HALF if k == 1 else 1) for way in "TI" for k in (1, 5, 10)}
OF_SIX = {f"test {way}R@{k}": (int(k > 1), THIRD if k == 1 else 1) for way in "TI" for k in (1, 5, 10)}
HARD = {"augmented": (0, THIRD), "original": (0, HALF), "brittleness": (0, THIRD)}

KNOWN = {
    "vsr": {"synthetic/dev": (HALF, HALF), "synthetic/test": (Fraction(3, 4), HALF)},  # all are true; a coin
    "valse": {"": (0, HALF)},
    "svo": {"": (0, HALF)},
    "winoground": {"group": (0, Fraction(1, 6)), "text": (0, FOURTH), "image": (0, FOURTH)},
    "aro": {
        "relation": (0, HALF),
        "attribution": (0, HALF),
        "coco_order": (1, FIFTH),  # ties are right
        "flickr30k_order": (1, FIFTH),
    },
    "sugarcrepe": {"": (0, HALF)},
    "sugarcrepe_pp": {"image-text": (0, THIRD), "caption": (0, HALF), "caption2": (0, HALF), "text-only": (0, THIRD)},
    "whatsup": {
        **dict.fromkeys(("A", "B"), (1, FOURTH)),  # ties are right
        **dict.fromkeys(("coco_one", "coco_two", "vg_one", "vg_two"), (1, HALF)),
    },
    "mmvp": SQUARE,
    "colorswap": SQUARE | {"one-sided": (0, HALF)},
    "cola": SQUARE,
    "bivlc": {
        "group": (0, Fraction(1, 6)),
        "I2T": (0, FOURTH),
        "T2I": (0, FOURTH),
        **dict.fromkeys(("Ipos2T", "Ineg2T", "Tpos2I", "Tneg2I", "GroupMatch"), (0, HALF)),
    },
    "rocketscience": SQUARE,
    "eqben": SQUARE,
    "vismin": SQUARE,
    "vl_checklist": {"relation/vg_action": (0, HALF), "relation/vg_spatial": (0, HALF)},
    "hard_positives": {f"{kind} {name}": value for kind in ("relations", "attributes") for name, value in HARD.items()},
    "crepe": {
        **{f"atom R@{k}": (int(k > 1), HALF if k == 1 else 1) for k in (1, 3, 5, 10)},  # one false text
        **{f"swap R@{k}": (int(k > 3), min(1, Fraction(k, 4))) for k in (1, 3, 5, 10)},  # three
    },
    "negbench": {"coco": (Fraction(3, 8), FOURTH), "voc2007": (Fraction(3, 8), FOURTH)},  # 2 of 7 and 1 of 1 come first
    "spec": {"i2t": (0, THIRD), "t2i": (0, HALF)},
    "snare": {
        **{f"relation {name}": (0, THIRD) for name in ("text", "exchanged", '"and"')},
        **{f"multi_spatial R@{k}": (0, Fraction(k, 4)) for k in (1, 2, 3)},
        **{f"ownership {name}": (0, THIRD) for name in ("text", "exchanged", "respectively")},
        **{f"logic {name}": (0, HALF) for name in ("text", "negated")},
    },
    "fgovd": {"hard": (1, Fraction(7, 18))},  # ties are right; of three, two and three texts
    "coco_retrieval": OF_SIX,  # three images with two captions each
    "flickr30k_retrieval": OF_SIX,
    "paragraphs": {
        name: (value[0], THIRD if "@1" in name and "@10" not in name else 1) for name, value in OF_SIX.items()
    },
    **dict.fromkeys(("urban1k", "dci", "docci", "iiw"), LONG),
    "classification": {"colours top-1": (0, Fraction(1, 7)), "colours top-5": (0, Fraction(5, 7))},
    "predcls": {"vrd/all": (0, (12 * Fraction(50, 132) * HALF + HALF) / 13)},  # best of two relations; first 50 of 132
    # The first 50 of 117 relations of 2 pairs and of 6; of the other task, 4 predictions come before the 50th anyway.
    "hico_relations": {"all": (0, (3 * Fraction(50, 234) + 2 * Fraction(50, 702)) / 5)},
    "open_images_relations": {"all": (1, Fraction(1))},
    "half_truth": {
        f"{split} {name}": (0, HALF)
        for split in ("entities", "relations")
        for name in ("half-truth", "which", "addition")
    },
    "graphs": {},  # below: it needs a model
    "grounding": {},  # `test_grounding.py`: it needs maps, and equal ones choose nothing right
}
"""By task and question: the share of right answers of equal scores, and the one expected of independent scores."""


def test_no_task_was_forgotten():
    assert set(KNOWN) == set(TASKS)


def guesses(task, items):
    """Records with drawn scores; where they hold ranks, all is scored again."""
    guesser = Guesser()
    records = task.score(guesser, items)
    while True:
        if "score" not in records[0]:
            yield task.score(guesser, items)
        else:
            scores = torch.rand(len(records), generator=guesser.generator).tolist()
            yield [record | {"score": score} for record, score in zip(records, scores, strict=True)]


@pytest.mark.parametrize("name", [name for name in TASKS if KNOWN[name]])
def test_equal_scores_and_guesses_get_their_known_values(data, name):
    ready, _ = prepare([name], Source(data))
    constant, right, asked = {}, defaultdict(int), defaultdict(int)
    for part in ready:
        found = shares(part.task, part.split, part.task.score(ConstantScorer(), part.items))
        constant |= {question: of / n for question, (of, n) in found.items()}
        wanted = ANSWERS if "score" in part.task.score(ConstantScorer(), part.items[:1])[0] else ANSWERS // 2
        for records in guesses(part.task, part.items):
            for question, (of, n) in shares(part.task, part.split, records).items():
                right[question] += of
                asked[question] += n
            if min(asked[question] for question in found) >= wanted:
                break
    assert constant == pytest.approx({question: float(value) for question, (value, _) in KNOWN[name].items()})
    assert set(right) == set(KNOWN[name])
    for question, (_, value) in KNOWN[name].items():
        spread = 4 * (float(value * (1 - value)) / asked[question]) ** 0.5
        assert abs(right[question] / asked[question] - value) <= spread, (question, right[question], asked[question])


def test_all_tasks_are_one_command_and_one_page(data, tmp_path, capsys):
    assert main(["--constant", "--tasks", "all", "--data", str(data), "--out", str(tmp_path)]) == 0
    assert "skipped graphs" in capsys.readouterr().err
    report = read_report(tmp_path / "zero_shot.json")
    assert {table.task for table in report.tables} == set(TASKS) - {"graphs", "grounding"}
    page = (tmp_path / "zero_shot.html").read_text()
    assert [title for table in report.tables if (title := table.title) not in page] == []


def test_an_mrc_head_that_knows_nothing_is_at_its_known_values(world, checkpoint, monkeypatch):
    loaded = load(checkpoint)
    mrc = loaded.objectives["mrc"]
    scorer = MatchScorer(loaded.backbone, loaded.preprocess, objectives=loaded.objectives, batch_size=64)
    items = TASKS["graphs"].items(Source(world))["validation"]
    relations = [relation for item in items for _, _, relation, _ in item.triplets]
    generator = torch.Generator().manual_seed(0)
    first = relations.count(mrc.vocabulary.names[0]) / len(relations)
    of_words, of_relations = [], []
    for draw in range(12):
        make = torch.zeros if not draw else lambda *shape: torch.randn(*shape, generator=generator)
        monkeypatch.setattr(mrc, "logits", lambda f, make=make: make(len(f.batch.subjects), len(mrc.vocabulary.names)))
        records = TASKS["graphs"].score(scorer, items)
        right = [record["correct"] for record in records if record["probe"] == "mrc"]
        of_words += [record["correct"] for record in records if record["probe"] == "words"]
        if not draw:
            assert sum(right) / len(right) == first
        else:
            of_relations += right
    assert abs(sum(of_relations) / len(of_relations) - 0.25) < 4 * (0.25 * 0.75 / len(of_relations)) ** 0.5
    assert sum(of_words) / len(of_words) < 0.1  # one of the words of a vocabulary, by an untrained model
