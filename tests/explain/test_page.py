"""The page, its panels and the command."""

import base64
import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from relpretrain.cli import main
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.explain.drawing import overlay, reach, scale
from relpretrain.explain.maps.contrast import contrast_map
from relpretrain.explain.maps.embeddings import embedding_maps
from relpretrain.explain.maps.texts import text_maps
from relpretrain.explain.page import render
from relpretrain.explain.panels import Card, card_of_sample, text_rows
from relpretrain.explain.samples import another_triplet, draw
from relpretrain.explain.survey import survey
from relpretrain.scene_graph import Entity, SceneGraph
from tests.explain.conftest import BLUE, GREEN, RED, YELLOW
from tests.explain.conftest import draw as drawn

PLACES = {"red": (RED, (0, 0, 16, 12)), "blue": (BLUE, (48, 36, 64, 48)), "green": (GREEN, (16, 24, 32, 36))}
PLACES["yellow"] = (YELLOW, (48, 0, 64, 12))


def sample(first, second, relation, label="square"):
    image = io.BytesIO()
    drawn(PLACES[first], PLACES[second]).save(image, "PNG")
    entities = [{"label": f"{name} {label}", "box": list(PLACES[name][1])} for name in (first, second)]
    relations = [{"subject": 0, "relation": relation, "object": 1}]
    record = {"width": 64, "height": 48, "captions": [f"a {first} and a {second} <b>{label}</b>"]}
    return image.getvalue(), record | {"entities": entities, "relations": relations}


def write_shard(folder, change=lambda number, image, record: image):
    """Three images; the last one's triplet shares no name with the others."""
    with ShardWriter(folder) as writer:
        for i, (first, second, relation) in enumerate(
            [("red", "blue", "left of"), ("blue", "red", "right of"), ("green", "yellow", "under")]
        ):
            image, record = sample(first, second, relation)
            writer.write(f"k{i}", change(i, image, record), "png", record)
    return str(folder)


@pytest.fixture
def shards(tmp_path):
    return write_shard(tmp_path / "shards")


class Page(HTMLParser):
    """All addresses, identifiers and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids, self.tags, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        self.ids += [found["id"]] if "id" in found else []


def check(text):
    """A page that needs nothing from elsewhere and no script, whose links lead somewhere."""
    page = Page(text)
    assert "script" not in page.tags
    assert "http" not in re.sub(r"data:[^'\"]*", "", text)
    assert "url(" not in text
    inner = [address for address in page.addresses if not address.startswith("data:image/")]
    assert {address[0] for address in inner} <= {"#"}
    assert {address[1:] for address in inner} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    return page


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_overlays_are_clear_where_maps_are_low():
    found = torch.zeros(4, 4)
    found[0, 0] = 1e-9
    shown = pixels(overlay(found))
    assert shown.shape[2] == 4
    side = len(shown)
    assert shown[0, 0, 3] > 250
    assert shown[-1, -1, 3] < 60
    assert shown[0, 0, :3].sum() > shown[side // 3, side // 3, :3].sum()  # brighter where it is higher
    assert pixels(overlay(torch.ones(4, 4)))[..., 3].max() == 0
    assert pixels(overlay(torch.zeros(7, 7)))[..., 3].max() == 0


def test_signed_overlays_have_two_colours():
    found = torch.zeros(4, 4)
    found[0, 0], found[3, 3] = 2.0, -1.0
    shown = pixels(overlay(found, signed=True)).astype(int)
    assert shown[0, 0, 0] > shown[0, 0, 2]
    assert shown[-1, -1, 2] > shown[-1, -1, 0]
    assert shown[0, 0, 3] > shown[-1, -1, 3] > 100
    middle = len(shown) // 2
    assert shown[middle, middle, 3] < 40


def test_samples_are_drawn_and_paired(shards):
    samples, bad = draw([f"{shards}/shard-000000.tar"], 10, 3, 0)
    assert len(samples) == 3
    assert bad == []
    assert [s.name for s in draw([f"{shards}/shard-000000.tar"], 2, 3, 0)[0]] == [s.name for s in samples[:2]]
    alone = next(i for i, own in enumerate(samples) if own.triplet(own.relations[0])[1] == "under")
    for number, own in enumerate(samples):
        other = another_triplet(samples, number, own.relations[0])
        assert other is not None
        assert not set(own.triplet(own.relations[0])) & set(other)
        assert (number == alone) == (other[1] != "under")
    assert another_triplet(samples[:1], 0, samples[0].relations[0]) is None


def test_a_planted_model_finds_the_boxes(planted, shards):
    samples, _ = draw([f"{shards}/shard-000000.tar"], 3, 3, 0)
    found = survey(planted, samples, shown=2)
    figures = {figure.name: figure for figure in found.figures}
    for name in ("subject: points", "subject: box", "object: points", "object: box"):
        assert figures[name].model.value == 1
    for name in ("subject: energy", "object: energy", "apart"):
        assert figures[name].model.value > 0.9
        assert figures[name].gain.value > 0.5  # the words of another triplet look elsewhere
    assert figures["apart"].baselines["uniform"] == pytest.approx(0, abs=1e-6)
    assert len(found.shown) == 2
    assert found.agreements
    cards = [card_of_sample(each) for each in found.shown]
    text = render(cards, "Title <i>", ["note"], found.figures, ["below"], {"model": "<b>"})
    page = check(text)
    assert "<b>" not in text
    assert "<i>" not in text
    assert page.ids[:5] == ["top", "content", "maps", "lines", "image-1"]
    assert "its box, which covers 6.2\N{NO-BREAK SPACE}%" in text


def test_texts_of_a_photo(loaded, picture):
    texts = ["a red square", "the blue dog"]
    rows = []
    for text, embedding in zip(text_maps(loaded, picture, texts), embedding_maps(loaded, picture, texts), strict=True):
        rows += text_rows(text, embedding, contrast_map(loaded, picture, text.text, "green sofa"))
    assert [len(row.panels) for row in rows] == [3, 3, 3, 3]
    assert [panel.title for panel in rows[3].panels] == ["the", "blue", "dog"]
    check(render([Card("<script>", picture, rows=rows)], "t"))


def test_a_photo_is_shown_with_the_numbers_of_python_and_a_legend_of_what_is_there(loaded, picture):
    text, foil = "a red square", "a blue square"
    contrast = contrast_map(loaded, picture, text, foil)
    (embedding,) = embedding_maps(loaded, picture, [text])
    page = render([Card("c", picture, rows=text_rows(contrast.true, embedding, contrast))], "t")
    match, other = (f"match {p:.3f}" for p in loaded.score([picture], [text, foil])[0].tolist())
    shown = page.replace("\N{NO-BREAK SPACE}", " ")
    assert f"{match} (logit {contrast.true.score:+.2f}), foil {other} (logit {contrast.foil.score:+.2f})" in shown
    cosine = f"cosine {loaded.score([picture], [text], 'itc').item():.3f}"
    assert f"{cosine} (divided by the temperature: {embedding.score:+.2f})" in shown
    assert "blue speaks for the foil, orange for the text, clear for neither; 0 is in the middle" in page
    assert f">-{reach(contrast.difference):.2g}</span><span class='quiet'>0</span>" in page
    assert "boxes" not in page.partition("<body")[2]  # a photo has none
    plain = render([Card("c", picture, rows=text_rows(contrast.true, embedding))], "t").partition("<body")[2]
    assert "foil" not in plain


def test_a_scale_has_the_colours_of_its_maps():
    for signed, ends in ((False, (0, 255)), (True, (255, 255))):
        stops = re.findall(r"rgb\((\d+) (\d+) (\d+) / (\d+)%\)", scale(signed))
        assert [round(255 * int(stop[3]) / 100) for stop in (stops[0], stops[-1])] == list(ends)
        assert stops[len(stops) // 2][3] == ("0" if signed else "62")
    ramp = torch.linspace(-1, 1, 72).expand(72, 72)
    shown = pixels(overlay(ramp, signed=True)).astype(int)[36]
    for stop, pixel in ((stops[0], shown[0]), (stops[-1], shown[-1])):
        assert [int(value) for value in stop[:3]] == pixel[:3].tolist()
    assert shown[36, 3] < 30  # 0 is in the middle, and clear


def test_the_command(with_mrc, shards, picture, tmp_path, capsys):
    with_mrc.save_pretrained(tmp_path / "model")
    picture.save(tmp_path / "photo.png")
    out, figures = tmp_path / "new" / "page.html", tmp_path / "figures.json"
    head = ["explain", "--checkpoint", str(tmp_path / "model")]
    assert main([*head, shards, "--out", str(out), "--n", "2", "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "Maps and boxes" in said
    assert "2 images in" in said
    check(out.read_text())
    assert out.read_text().count("<section") == 2
    assert "MRC: " in out.read_text()
    content = json.loads(figures.read_text())
    assert [figure["n"] for figure in content["figures"]] == [3] * 9
    assert -1 <= content["agreement with a random top layer"] < 1
    assert "--n 2" in content["made"]["command"]

    words = ["--image", str(tmp_path / "photo.png"), "--text", "red square", "dog", "--foil", "blue square", "sofa"]
    assert main([*head, *words, "--out", str(out)]) == 0
    text = out.read_text()
    check(text)
    assert "Word by word (2)" in text
    assert "Foil: blue square" in text
    assert "1 image in" in capsys.readouterr().out


def test_names_that_are_no_text_are_mended(loaded, picture, tmp_path, capsys):
    """As bytes of another encoding come in, on the command line or in names of files."""
    loaded.save_pretrained(tmp_path / "model")
    photo = tmp_path / os.fsdecode(b"ph\xffto.png")
    picture.save(photo)
    out = tmp_path / os.fsdecode(b"p\xff.html")
    given = ["--image", str(photo), "--text", "dog \udcff", "--out", str(out)]
    assert main(["explain", "--checkpoint", str(tmp_path / "model"), *given]) == 0
    assert "<h2>ph\ufffdto.png</h2>" in out.read_text(encoding="utf-8")
    assert "p\\udcff.html" in capsys.readouterr().out


def test_without_figures_there_is_json_all_the_same(with_mrc, shards, tmp_path):
    """Of a model that looks nowhere, whose maps have no correlation."""
    with torch.no_grad():
        for parameter in with_mrc.backbone.fusion.parameters():
            parameter.zero_()
    with_mrc.save_pretrained(tmp_path / "model")
    figures = tmp_path / "f.json"
    given = [shards, "--out", str(tmp_path / "p.html"), "--json", str(figures), "--n", "2", "--measure", "1"]
    assert main(["explain", "--checkpoint", str(tmp_path / "model"), *given]) == 0
    content = json.loads(figures.read_text(), parse_constant=pytest.fail)
    assert content.keys() == {"figures", "made"}
    assert [figure["n"] for figure in content["figures"]] == [2] * 9  # at least those of the page


def test_a_text_without_words_has_no_row_of_words(loaded, picture):
    (text,), (embedding,) = text_maps(loaded, picture, [" "]), embedding_maps(loaded, picture, [" "])
    assert [len(row.panels) for row in text_rows(text, embedding)] == [2]


def test_an_image_that_is_cut_off_is_left_out(with_mrc, tmp_path, capsys):
    with_mrc.save_pretrained(tmp_path / "model")
    shards = write_shard(tmp_path / "shards", lambda number, image, record: image[:90] if number == 1 else image)
    given = ["explain", "--checkpoint", str(tmp_path / "model"), shards, "--out", str(tmp_path / "page.html")]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "2 images in" in said
    assert "Left out: 1 sample or triplet, such as shard-000000/k1: broken_image" in said


def test_images_whose_triplets_are_too_long_are_not_on_the_page(with_mrc, shards, tmp_path):
    samples, _ = draw([f"{shards}/shard-000000.tar"], 3, 3, 0)
    long = SceneGraph(tuple(Entity("dog " * 60, e.box) for e in samples[0].graph.entities), samples[0].graph.relations)
    found = survey(with_mrc, [replace(samples[0], graph=long), *samples[1:]], shown=2)
    assert [each.sample.name for each in found.shown] == [sample.name for sample in samples[1:]]
    assert len(found.left_out) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--out", "p.html"], "name shards of graphs, or photos with --image and --text"),
        (["SHARDS", "--image", "x.png", "--text", "a", "--out", "p.html"], "name shards of graphs, or photos"),
        (["--image", "x.png", "--out", "p.html"], "--image needs a --text"),
        (["--image", "x.png", "--text", "a", "--out", "p.html"], "image x.png does not exist"),
        (["SHARDS", "--text", "a", "--out", "p.html"], "--text and --foil go with --image"),
        (["--image", "x", "--text", "a", "b", "--foil", "c", "--out", "p.html"], "each --text needs its --foil"),
        (["SHARDS", "--out", "p.txt"], "--out p.txt should end in .html"),
        (["--image", "x", "--text", "a", "--json", "f", "--out", "p.html"], "--json writes figures, which shards"),
        (["SHARDS", "--block", "1", "--out", "p.html"], "--block goes with --image"),
        (["gone", "--out", "p.html"], "gone"),
    ],
)
def test_mistakes_are_told_in_a_line(given, said, shards, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [shards if word == "SHARDS" else word for word in given]
    assert main(["explain", "--checkpoint", str(tmp_path), *given]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_missing_checkpoint_is_told(shards, tmp_path, capsys):
    assert main(["explain", shards, "--checkpoint", str(tmp_path / "no.ckpt"), "--out", "p.html"]) == 2
    assert "no.ckpt does not exist" in capsys.readouterr().err
