"""Draws the pictures of docs/concepts: `python docs/generate/pictures.py` writes them anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "concepts"

INK, QUIET, LINE = "#1a202c", "#4a5568", "#94a3b8"
SUBJECT, OBJECT = "#c2410c", "#1d4ed8"
STREAMS = {"captions": "#7c3aed", "regions": "#0f766e", "graphs": "#b45309"}
PALE = {"#7c3aed": "#ede9fe", "#0f766e": "#ccfbf1", "#b45309": "#fef3c7", SUBJECT: "#ffedd5", OBJECT: "#dbeafe"}


class Drawing:
    """SVG elements on a white card, piece by piece.

    Args:
        width: In pixels.
        height: In pixels.
        said: What a person hears who does not see it.
    """

    def __init__(self, width: int, height: int, said: str) -> None:
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif"><title>{escape(said)}</title>'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{QUIET}"/></marker></defs>'
            f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>'
        )
        self.parts: list[str] = []

    def rect(self, x: float, y: float, w: float, h: float, line: str = LINE, fill: str = "#ffffff", r: int = 6) -> None:
        """A rectangle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{r}" fill="{fill}" stroke="{line}" '
            'stroke-width="1.5"/>'
        )

    def text(self, x: float, y: float, words: str, size: int = 15, colour: str = INK, **further: str) -> None:
        """A line of text; `anchor="middle"` centres it at x, `weight="bold"` and `family` are SVG's."""
        names = {"anchor": "text-anchor", "weight": "font-weight", "family": "font-family", "style": "font-style"}
        more = "".join(f' {names[name]}="{value}"' for name, value in further.items())
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>')

    def box(self, x: float, y: float, w: float, h: float, words: str, line: str = LINE, size: int = 15) -> None:
        """A rectangle with a text in its middle."""
        self.rect(x, y, w, h, line, PALE.get(line, "#ffffff"))
        self.text(x + w / 2, y + h / 2 + size / 3, words, size, anchor="middle")

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through points, with a tip at the last."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{QUIET}" stroke-width="2" marker-end="url(#tip)"/>')

    def line(self, *points: tuple[float, float], colour: str = LINE, dashes: str = "none") -> None:
        """A line through points."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        )

    def svg(self) -> str:
        """The whole file."""
        return self.head + "\n".join(["", *self.parts, "</svg>", ""])


def scene(draw: Drawing, x: float, y: float, mirrored: bool = False, only: str = "") -> None:
    """A cup on a table and a lamp to its left, 180 x 120; `only` covers all patches but those of "cup" or "table"."""

    def at(left: float, width: float) -> float:
        return x + (180 - left - width if mirrored else left)

    draw.rect(x, y, 180, 120, QUIET, "#f1ead9", r=0)
    draw.rect(at(60, 110), y + 70, 110, 12, "#6b5b4d", "#8d7763", r=2)
    for leg in (68, 154):
        draw.rect(at(leg, 8), y + 82, 8, 34, "#6b5b4d", "#8d7763", r=0)
    draw.rect(at(100, 30), y + 42, 30, 28, "#7f1d1d", "#dc2626", r=4)
    draw.rect(at(18, 28), y + 26, 28, 22, "#92400e", "#facc15", r=4)
    draw.rect(at(30, 4), y + 48, 4, 66, "#6b5b4d", "#6b5b4d", r=0)
    if only:
        columns, rows = {"cup": (range(3, 5), range(1, 3)), "table": (range(2, 6), range(2, 4))}[only]
        for column in range(6):
            for row in range(4):
                if column not in columns or row not in rows:
                    draw.rect(x + 30 * column, y + 30 * row, 30, 30, "#cbd5e1", "#e2e8f0", r=0)
        draw.rect(x, y, 180, 120, QUIET, "none", r=0)


def tokens(draw: Drawing, x: float, y: float, words: Sequence[tuple[str, str]]) -> None:
    """Words of a verbalised graph in a row, each with its colour."""
    for word, colour in words:
        draw.text(x, y, word, 15, colour, family="'DejaVu Sans Mono', Menlo, monospace")
        x += 9.1 * len(word) + 9


def vsg() -> Drawing:
    """A flip changes the text with the image."""
    draw = Drawing(900, 290, "An image and its text; mirrored, the text says right of where it said left of.")
    text = [("[CLS]", LINE), ("cup", SUBJECT), ("on", INK), ("table", OBJECT), ("[SEP]", LINE)]
    for x, title, side, mirrored in (
        (30, "An image, its graph in words", "left of", False),
        (480, "Mirrored", "right of", True),
    ):
        draw.text(x, 34, title, 16, weight="bold")
        scene(draw, x, 50, mirrored)
        draw.text(x + 200, 80, "(cup, on, table)", 15)
        draw.text(x + 200, 106, f"(lamp, {side}, table)", 15)
        lamp = [("lamp", "#15803d"), (side, "#b91c1c" if mirrored else INK), ("table", OBJECT), ("[SEP]", LINE)]
        draw.rect(x, 190, 400, 70)
        tokens(draw, x + 14, 218, text)
        tokens(draw, x + 14, 246, lamp)
    return draw


def mrc() -> Drawing:
    """Subject and object, each alone."""
    draw = Drawing(900, 330, "The cup alone and the table alone are encoded; both states together give the relation.")
    draw.text(30, 34, "Subject and object, each seen alone", 16, weight="bold")
    for y, name, colour, state in (
        (50, "cup", SUBJECT, "state of the subject"),
        (190, "table", OBJECT, "state of the object"),
    ):
        scene(draw, 30, y, only=name)
        draw.text(226, y + 65, f"+ “{name}”", 16, colour)
        draw.arrow((310, y + 60), (350, y + 60))
        draw.box(354, y + 35, 180, 50, state, colour)
        draw.arrow((534, y + 60), (570, y + 60), (600, 172 if y < 100 else 188))
    draw.box(604, 155, 110, 50, "two layers")
    draw.arrow((714, 180), (748, 180))
    draw.rect(752, 118, 126, 124)
    for i, (relation, share) in enumerate((("on", 92), ("under", 14), ("left of", 22))):
        draw.rect(764, 130 + 36 * i, share, 12, "#7c3aed", "#c4b5fd", r=2)
        draw.text(764, 158 + 36 * i, relation, 13)
    return draw


def views() -> Drawing:
    """Texts paired with images or regions."""
    draw = Drawing(900, 300, "Three types of batches, the pairs they are seen as, and the losses on these pairs.")
    for x, title in ((30, "a batch of"), (250, "is seen as pairs of"), (560, "on which run")):
        draw.text(x, 34, title, 16, weight="bold")
    rows = (
        ("captions", "caption, whole image", "ITC, ITM, MLM"),
        ("regions", "phrase, region", "the same three: VMA. And BOX"),
        ("graphs", "graph in words, whole image", "the same three: VSG. And MRC"),
    )
    for y, (name, view, losses) in zip((56, 136, 216), rows, strict=True):
        draw.box(30, y, 150, 54, name, STREAMS[name], 16)
        draw.arrow((184, y + 27), (246, y + 27))
        draw.box(250, y, 240, 54, view)
        draw.arrow((494, y + 27), (556, y + 27))
        draw.box(560, y, 310, 54, losses)
    return draw


def mixture() -> Drawing:
    """A step is of one stream and one data set."""
    draw = Drawing(900, 250, "A row of steps; each is of one stream and of one of its data sets.")
    draw.text(30, 34, "Ratios 2 : 1 : 3 of captions, regions and graphs: a step draws one stream,", 16, weight="bold")
    draw.text(30, 56, "and of it one data set", 16, weight="bold")
    order = [
        "graphs",
        "captions",
        "graphs",
        "regions",
        "graphs",
        "captions",
        "graphs",
        "captions",
        "graphs",
        "regions",
        "captions",
        "graphs",
    ]
    sets = ["vg", "cc", "vg", "coco", "gqa", "coco", "gqa", "cc", "vg", "coco", "cc", "gqa"]
    for i, (name, of) in enumerate(zip(order, sets, strict=True)):
        x = 30 + 70 * i
        draw.box(x, 80, 62, 60, of, STREAMS[name], 14)
        draw.text(x + 31, 160, str(i), 12, QUIET, anchor="middle")
    draw.text(30, 182, "step", 12, QUIET)
    for x, name in zip((30, 200, 370), STREAMS, strict=True):
        draw.rect(x, 204, 22, 22, STREAMS[name], PALE[STREAMS[name]])
        draw.text(x + 32, 220, name, 14)
    return draw


def resume() -> Drawing:
    """The batch of a step depends on seed and step alone."""
    draw = Drawing(900, 260, "A run that was killed goes on from its checkpoint with the batches it would have had.")
    draw.text(30, 34, "The batch of step t is a function of the seed and t", 16, weight="bold")
    for i in range(10):
        draw.box(150 + 70 * i, 60, 60, 44, f"batch {i}", size=13)
    draw.text(30, 88, "never killed", 14)
    draw.text(30, 158, "killed", 14)
    draw.text(30, 228, "gone on", 14)
    for i in range(7):
        draw.box(150 + 70 * i, 130, 60, 44, f"batch {i}", SUBJECT if i > 4 else LINE, 13)
    draw.text(648, 158, "killed here", 14, SUBJECT)
    draw.line((497, 122), (497, 250), colour=OBJECT, dashes="5 4")
    draw.text(350, 228, "checkpoint", 14, OBJECT)
    for i in range(5, 10):
        draw.box(150 + 70 * i, 200, 60, 44, f"batch {i}", OBJECT, 13)
    return draw


def zero_shot() -> Drawing:
    """What is asked, and what is right."""
    draw = Drawing(900, 300, "Four ways to ask: a statement, two texts, two texts of two images, and a collection.")
    kinds = (
        (30, "One statement", ("The cup is on the table.",), "true if its score", "reaches 0.5 (VSR)"),
        (250, "Two texts", ("cup on table", "table on cup"), "the true text must", "score higher (VALSE)"),
        (470, "Two images, two texts", (), "each text with its image", "above both mixed pairs"),
        (690, "A collection", (), "is the caption among the", "best 1, 5 or 10 found?"),
    )
    for x, title, texts, first, second in kinds:
        draw.text(x, 34, title, 15, weight="bold")
        if texts:
            scene(draw, x, 50)
        for i, text in enumerate(texts):
            draw.text(x, 196 + 22 * i, text, 14, INK if i == 0 else "#b91c1c", style="italic")
        draw.text(x, 254, first, 13, QUIET)
        draw.text(x, 274, second, 13, QUIET)
    for row in range(2):
        for column in range(2):
            right = row == column
            draw.box(
                500 + 70 * column, 60 + 60 * row, 62, 52, "high" if right else "low", OBJECT if right else LINE, 14
            )
    for row in range(5):
        for column in range(5):
            right = row == column
            draw.rect(
                700 + 32 * column,
                56 + 26 * row,
                28,
                22,
                OBJECT if right else LINE,
                PALE[OBJECT] if right else "#ffffff",
            )
    return draw


PICTURES: dict[str, Callable[[], Drawing]] = {f.__name__: f for f in (vsg, mrc, views, mixture, resume, zero_shot)}


def main(names: Iterable[str] = PICTURES) -> int:
    """Write the pictures."""
    for name in names:
        (FOLDER / f"{name}.svg").write_text(PICTURES[name]().svg(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
