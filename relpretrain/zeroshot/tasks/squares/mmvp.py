"""MMVP-VLM (Tong et al., CVPR 2024): which of two images that CLIP takes for alike does a text describe?"""

from __future__ import annotations

from relpretrain.zeroshot.analysis.rules import GROUP, IMAGE, MATCH, TEXT
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle
from relpretrain.zeroshot.tasks.common.rows import cell, find_file, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Source

TYPES = (
    "Orientation and Direction",
    "Presence of Specific Features",
    "State and Condition",
    "Quantity and Count",
    "Positional and Relational Context",
    "Color and Appearance",
    "Structural Characteristics",
    "Texts",
    "Viewpoint and Perspective",
)
PROMPT = "a photo of "

CARD = Card(
    task="mmvp",
    title="MMVP-VLM",
    question="Which of two images that CLIP takes for alike does a text describe?",
    paper="Tong et al., CVPR 2024, <https://arxiv.org/abs/2401.06209>.",
    licence="MIT",
    files=("`Questions.csv`", "`MLLM_VLM Images/<type>/<id>.jpg`"),
    source="<https://huggingface.co/datasets/MMVP/MMVP_VLM>",
    images="ImageNet and LAION, shipped with the data",
    protocol='mmvp-1: image: each of two texts, "a photo of " before it, prefers its image; text: each image prefers '
    "its "
    "text; group: both; ties wrong",
    ties="wrong. Official code takes a tie of the first text as wrong and one of the second as right",
    constant="0 % of all",
    comparable="the image score is the official figure and the paper's; text and group as vl_compo reports them",
    not_comparable="figures of the MMVP benchmark for generative models; papers that say MMVP-VLM and quote the text "
    "or "
    "the group score; the official mean of the nine types is the figure over all pairs, 15 of each",
    versions=(Version("2024", "", dict.fromkeys(TYPES, 15)),),
)


class MMVP(GridTask):
    """135 pairs of nine types."""

    card = CARD
    rules = (IMAGE, TEXT, GROUP, MATCH)
    categories = TYPES

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """Two rows of DIR/mmvp/Questions.csv after one another are a pair."""
        path = find_file(source.folder(self.name), ("Questions.csv", "*.csv", "*.jsonl", "*.json"), "the statements")
        rows = [row for _, row in read_rows(path, "statements")]
        if len(rows) % 2:
            raise ValueError(f"{path} holds {len(rows)} statements, but MMVP-VLM has pairs: two rows each.")
        found = []
        for number, (first, second) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
            where = f"MMVP-VLM pair {number} of {path}"
            kinds, ids, texts = [
                [read(row, names, where) for row in (first, second)]
                for read, names in (
                    (text_cell, ("type", "Type", "category")),
                    (cell, ("id", "Question ID", "index")),
                    (text_cell, ("statement", "Statement", "Question", "text")),
                )
            ]
            if kinds[0].strip() != kinds[1].strip():
                raise ValueError(f"{where} is of two types, {kinds[0]!r} and {kinds[1]!r}: rows are missing.")
            images = tuple(f"MLLM_VLM Images/{kinds[0].strip()}/{str(i).strip()}.jpg" for i in ids)
            prompts = tuple(PROMPT + text.strip() for text in texts)
            found.append(Puzzle(f"mmvp/{number}", prompts, images, kinds[0].strip()))
        return {"": found}
