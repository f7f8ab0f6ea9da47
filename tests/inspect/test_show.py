import io
import json
import tarfile
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from relpretrain.cli import main
from relpretrain.data.pipeline.stages import Pipeline
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import TextWriter
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.features import patch_mask
from relpretrain.identity import number_of
from relpretrain.inspect.show.page import _places, _runs, marked, render
from relpretrain.inspect.show.samples import Lens, look
from relpretrain.scene_graph import Box, RelationVocabulary
from tests.data.small import picture, record, stream, tokenizer, write_shards

SIZE, GRID = 32, (4, 4)
LABELS = ["cat", "dog", "tree"]


@pytest.fixture
def index(tmp_path):
    return ShardIndex.of(f"{write_shards(tmp_path / 's', 6, 6)}/s-000000.tar")


@pytest.fixture
def lenses(tmp_path):
    encoder = TextEncoder(load_tokenizer(tokenizer(tmp_path)), 40)
    options = {"min_scale": 0.3}
    return {k: Lens(stream(k, "", **options), encoder, SIZE, GRID) for k in ("captions", "regions", "graphs")}


def test_shows_what_training_gets(index, lenses):
    shown = look("small", index, 2, lenses, draws=4, seed=7)
    for name, lens in lenses.items():
        pipeline = Pipeline(lens.stream, SIZE, TextWriter(lens.stream, lens.encoder, lens.mask_fraction))
        for number, draw in enumerate(shown.draws[name]):
            rng = np.random.default_rng([7, number_of(name, f"{index.name}/{index.keys[2]}"), number])
            example, _ = pipeline("small", index, 2, rng)
            assert len(draw.texts) == len(example.texts)
            for (tokens, _), text in zip(draw.texts, example.texts, strict=True):
                convert = lens.encoder.tokenizer.convert_ids_to_tokens
                assert [token.text for token in tokens] == convert(text.tokens.ids)
                assert [token.seen for token in tokens] == convert(text.masked[0])
                assert [token.chosen for token in tokens] == [label >= 0 for label in text.masked[1]]
            assert len(draw.masked) == len(example.triplets)
            assert np.array_equal(np.asarray(draw.image), example.image.permute(1, 2, 0))


def test_spans_name_the_entities_of_the_whole_image(index, lenses):
    cropped = 0
    for row in range(6):
        shown = look("small", index, row, lenses, draws=8)
        assert [entity.label for entity in shown.graph.entities] == LABELS
        for draw in shown.draws["graphs"]:
            cropped += len(draw.boxes) < 3
            ((tokens, about),) = draw.texts
            assert about is None
            assert {token.role for token in tokens if not token.special} == {"subject", "relation", "object"}
            for token in tokens:
                if token.role in ("subject", "object"):
                    assert token.text == LABELS[token.entity]
                    assert token.entity in draw.boxes
            for masked in draw.masked:
                boxes = torch.tensor([draw.boxes[n].relative(SIZE, SIZE) for n in (masked.subject, masked.object)])
                assert np.array_equal(masked.masks, patch_mask(boxes, GRID).reshape(2, *GRID).numpy())
                assert (masked.subject, masked.relation, masked.object) in {
                    (r.subject, r.relation, r.object) for r in shown.graph.relations
                }
        for draw in shown.draws["regions"]:
            for tokens, about in draw.texts:
                assert tokens[-2].text == LABELS[about]
    assert cropped > 5


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.texts, self.ids = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values[key] for key in ("href", "src") if key in values]
        if "id" in values:
            assert values["id"] not in self.ids
            self.ids.add(values["id"])
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_else(index, lenses):
    shown = [look("small", index, row, lenses, draws=2) for row in range(2)]
    page = parsed(render(shown, lenses, "Samples of a < b", ["a note & more"]))
    assert "Samples of a < b" in page.texts
    assert "a note & more" in page.texts
    assert page.links
    for link in page.links:
        assert link.startswith("data:image/") or link.removeprefix("#") in page.ids
    style = page.texts[page.texts.index("Samples of a < b") + 1 :]
    assert not any("url(" in text or "@import" in text for text in style)
    for caption in shown[0].captions:
        assert caption in page.texts


def test_what_is_left_out_is_counted_and_pairs_without_end_are_not_shown(index, lenses):
    lens = replace(lenses["graphs"], vocabulary=RelationVocabulary(["beside"]))
    lens.stream = replace(lens.stream, boxes_per_image=3, min_scale=1.0)
    shown = look("small", index, 0, {"graphs": lens}, draws=1)
    (draw,) = shown.draws["graphs"]
    assert len(draw.masked) == 6
    assert draw.lost == ["relation_outside_vocabulary"] * 2
    draw.masked *= 3
    texts = parsed(render([shown], {"graphs": lens}, "t")).texts
    assert "Left out: relation outside vocabulary (2 times)" in texts
    assert "and 6 more pairs" in texts
    assert texts.count("(no relation)") == 3  # those with a relation come first


def test_texts_of_the_data_are_no_markup(tmp_path, lenses):
    evil = "<script>alert('1')</script>"
    with tarfile.open(tmp_path / "e.tar", "w") as tar:
        entities = [{"label": evil, "box": [1, 2, 9, 9]}, {"label": "dog", "box": [3, 2, 9, 9], "attributes": [evil]}]
        relations = [{"subject": 0, "relation": evil, "object": 1}]
        content = {**record(0), "captions": [evil], "entities": entities, "relations": relations, "source": evil}
        for name, data in (("a.png", picture(0)), ("a.json", json.dumps(content).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    index = ShardIndex.of(str(tmp_path / "e.tar"))
    html = render([look("small", index, 0, lenses, 1)], lenses, evil, [evil])
    assert "<script" not in html
    assert evil in parsed(html).texts


def test_bad_samples_say_why(tmp_path, lenses):
    shards = write_shards(tmp_path / "bad", 2, 2, image=lambda i: picture(i)[: 2000 if i else 100])
    index = ShardIndex.of(f"{shards}/s-000000.tar")
    shown = look("small", index, 0, lenses, 1)
    assert shown.bad.startswith("truncated_image")
    assert shown.draws["graphs"][0].bad.startswith("truncated_image")
    assert any("truncated_image" in text for text in parsed(render([shown], lenses, "t")).texts)


def test_badges_stay_clear_of_each_other_and_inside():
    rng = np.random.default_rng(0)
    for _ in range(30):
        corners = rng.uniform(0, 60, (8, 2))
        boxes = {i: Box(x, y, x + w, y + h) for i, ((x, y), (w, h)) in enumerate(
            zip(corners, rng.uniform(3, 40, (8, 2)), strict=True))}  # fmt: skip
        places = np.array(list(_places(boxes, (100, 100), 2.6).values()))
        gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1000 * np.eye(8)
        assert gaps.min() > 2 * 2.6
        assert places.min() >= 2.6
        assert places.max() <= 97.4


def test_runs():
    assert _runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert _runs(np.zeros(3, bool)) == []


def test_the_command(tmp_path, capsys):
    shards = write_shards(tmp_path / "s", 6, 6)
    page = tmp_path / "pages" / "page.html"
    words = ["data", "show", shards, "--out", str(page), "--n", "3", "--draws", "2", "--image-size", "48"]
    assert main(words) == 0
    first = page.read_text()
    assert "3 samples in" in capsys.readouterr().out
    assert parsed(first).open == []
    assert first.count("<section") == 3
    assert first.count("As graphs") == 3
    assert first.count("class='draw'") == 3 * 3 * 2
    assert main(words) == 0
    assert page.read_text() == first
    assert main([*words, "--seed", "1"]) == 0
    assert page.read_text() != first


def test_what_has_no_room_is_not_told_as_lost_in_the_crop(tmp_path):
    index = ShardIndex.of(f"{write_shards(tmp_path / 's', 1, 1)}/s-000000.tar")
    lens = Lens(stream("graphs", "", max_tokens=7), TextEncoder(load_tokenizer(tokenizer(tmp_path)), 7), SIZE, GRID)
    shown = look("small", index, 0, {"graphs": lens}, draws=8)
    lost = [draw.lost for draw in shown.draws["graphs"] if "triplet_too_long" in draw.lost]
    page = render([shown], {"graphs": lens}, "t")
    assert lost
    times = lost[0].count("triplet_too_long")
    assert f"Left out: triplet too long{f' ({times} times)' if times > 1 else ''}" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name shards, or a recipe with -c"),
        (["{}/s", "--image-size", "50"], "image size 50 is not a multiple of the patch size 16"),
        (["{}/s", "--n", "0"], "must be at least 1, got 0"),
        (["{}/s", "--seed", "-1"], "argument --seed: must be at least 0, got -1"),
        (["{}/s", "--vocabulary", "ggqa"], "no relation vocabulary 'ggqa'"),
        (["{}/bare"], "nothing to show"),
        (["{}/s", "--tokenizer", "{}/none"], "There is no tokenizer folder"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, capsys, words, message):
    write_shards(tmp_path / "s", 2)
    write_shards(tmp_path / "bare", 2, captions=0, graph=False)
    assert main(["data", "show", *(w.format(tmp_path) for w in words), "--out", str(tmp_path / "p.html")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "p.html").exists()


@pytest.mark.realdata
def test_real_graphs(realdata, tmp_path):
    folder = realdata / "vrd"
    words = ["--images", f"{folder}/images", "--annotations", f"{folder}/annotations_test.json"]
    assert main(["data", "convert", "vrd", *words, "--out", str(tmp_path / "vrd"), "--workers", "1"]) == 0
    page = tmp_path / "page.html"
    assert main(["data", "show", str(tmp_path / "vrd"), "--out", str(page), "--n", "3"]) == 0
    found = parsed(page.read_text())
    assert sum(link.startswith("data:image/jpeg") for link in found.links) == 3 * (1 + 2 * 3)


def test_a_label_of_megabytes_is_cut(tmp_path):
    long = record(0)
    long["entities"][0]["label"] = "w" * 10_000_000
    with ShardWriter(tmp_path / "s") as writer:
        writer.write("k", picture(0), "png", long)
    words, page, start = tokenizer(tmp_path), tmp_path / "p.html", time.perf_counter()
    assert main(["data", "show", str(tmp_path / "s"), "--tokenizer", words, "--out", str(page), "--draws", "1"]) == 0
    assert time.perf_counter() - start < 30  # seconds; it did not end in minutes
    assert page.stat().st_size < 100_000


def test_captions_are_marked_where_their_graph_was_read(tmp_path, lenses):
    """Words of entities and relations are marked; all else, and what spans do not fit, stays as it is."""
    caption = "A <b>cat</b> on a mat"
    of = {"caption": 0, "source": "p <1>"}
    entities = [
        {"label": "cat", **of, "span": [5, 8]},
        {"label": "mat", "box": [1, 2, 15, 20], **of, "span": [18, 21]},
        {"label": "odd", **of, "span": [19, 20]},
        {"label": "beyond", **of, "span": [20, 99]},
        {"label": "elsewhere", **of | {"caption": 1}, "span": [0, 1]},
    ]
    relations = [
        {"subject": 0, "relation": "on", "object": 1, **of, "span": [13, 15], "confidence": 0.25},
        {"subject": 1, "relation": "under", "object": 0},
    ]
    content = {"image_id": "1", "width": 40, "height": 30, "captions": [caption]}
    content |= {"entities": entities, "relations": relations}
    with ShardWriter(tmp_path / "g") as writer:
        writer.write("k", picture(), "png", content)
    index = ShardIndex.of(tmp_path / "g/shard-000000.tar")
    shown = look("small", index, 0, lenses, draws=1)
    pieces = marked(caption, 0, shown.graph)
    assert "".join(piece.text for piece in pieces) == caption
    assert [tuple(p) for p in pieces if p.entity is not None or p.relation] == [
        ("cat", 0, ""), ("on", None, "on"), ("mat", 1, "")
    ]  # fmt: skip
    page = parsed(render([shown], lenses, "title"))
    assert "p <1> · caption 1 · 0.25" in page.texts
    assert "A <b>" in page.texts
    assert not any(" · 1.00" in text for text in page.texts)  # what people say needs no source
    assert set(shown.draws["graphs"][0].boxes) <= {1}
