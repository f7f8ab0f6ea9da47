"""What an annotation names as an image is looked for in the folder of images, and nowhere else."""

import argparse
import json
from collections import Counter
from pathlib import Path

import pytest

from relpretrain.sources import (
    coco,
    gqa,
    hico,
    image_text,
    open_images,
    own,
    psg,
    visual_genome,
    vrd,
    xvlm,
)
from relpretrain.sources.common.annotation import Annotation
from relpretrain.sources.common.files import inside
from relpretrain.zeroshot.run import finder
from relpretrain.zeroshot.tasks.common.images import ImageFinder
from tests.data.small import picture

OUTSIDE = ["../secret", "{}/secret", "a/../../secret", "/../../{}/secret"]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "in.jpg").write_bytes(picture())
    (tmp_path / "secret.jpg").write_bytes(picture())
    return tmp_path / "images"


def _written(folder, content):
    path = folder.parent / "annotations.json"
    path.write_text("\n".join(map(json.dumps, content)) if isinstance(content, tuple) else json.dumps(content))
    return path


def _read(kind, images, name):
    """What readers make of an annotation of an image of this name."""
    dropped = Counter()
    file = f"{name}.jpg"
    if kind == "albef":
        return image_text.read_albef(images, _written(images, [{"image": file, "caption": "c"}]), dropped=dropped)
    if kind == "table":
        return image_text.read_image_text(images, _written(images, [{"image": file, "caption": "c"}]), dropped=dropped)
    if kind == "xvlm":
        return xvlm.read_xvlm(_written(images, ({"image_rpath": file, "caption": "c"},)), images, dropped=dropped)
    if kind == "gqa":
        return gqa.read_gqa(images, _written(images, {name: {"objects": {}}}), dropped=dropped)
    if kind == "psg":
        named = {key: ["a"] for key in ("thing_classes", "stuff_classes", "predicate_classes")}
        item = {"file_name": file, "image_id": "1", "width": 1, "height": 1, "annotations": [], "relations": []}
        return psg.read_psg(images, _written(images, named | {"data": [item]}), dropped=dropped)
    if kind == "vrd":
        for names in ("objects.json", "predicates.json"):
            (images.parent / names).write_text('["a"]')
        return vrd.read_vrd(images, _written(images, {file: []}), dropped=dropped)
    if kind == "open_images":
        row = dict.fromkeys(open_images.COLUMNS, "0") | {"ImageID": name}
        table = images.parent / "table.csv"
        table.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
        return open_images.read_open_images(images, table, [], dropped=dropped)
    if kind == "hico":
        item = {"file_name": file, "annotations": [], "hoi_annotation": []}
        return hico.read_hico(images, _written(images, [item]), dropped=dropped)
    listing = {"images": [{"id": 1, "file_name": file, "width": 1, "height": 1}]}
    listing |= {"annotations": [{"image_id": 1, "caption": "c"}]}
    return coco.read_coco(images, captions=_written(images, listing), dropped=dropped)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["albef", "table", "xvlm", "gqa", "coco", "psg", "vrd", "open_images", "hico"])
def test_readers_stay_in_the_folder(images, kind, name):
    name = name.format(images.parent)
    found = [a if isinstance(a, Annotation) else a.now(Counter()) for a in _read(kind, images, name)]
    assert [annotation.image for annotation in found] == [images / "secret.jpg"]  # which is not there


@pytest.mark.parametrize("name", OUTSIDE)
def test_your_own_lists_are_told_so(images, name):
    path = _written(images, ({"image": f"{name.format(images.parent)}.jpg", "captions": ["c"]},))
    with pytest.raises(ValueError, match=r"is not in .*images"):
        list(own.read_own(images, path, dropped=Counter()))


@pytest.mark.parametrize("name", OUTSIDE)
def test_benchmarks_stay_in_the_folder(images, name):
    assert ImageFinder([images]).find(f"{name.format(images.parent)}.jpg") is None
    assert ImageFinder([images]).find(str(images / "a" / "in.jpg")) == images / "a" / "in.jpg"
    assert ImageFinder([images]).find("/elsewhere/in.jpg") == images / "a" / "in.jpg"


def test_paths_within_the_folder_stay(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    assert inside(Path("images"), "a/in.jpg") == Path("images/a/in.jpg")
    assert inside(Path("images"), "a/../b.jpg") == Path("images/a/../b.jpg")
    assert inside(Path("images"), str(images / "b.jpg")) == images / "b.jpg"
    assert inside(Path("/"), "etc") == Path("/etc")


def test_addresses_of_visual_genome_stay_in_the_folder(images):
    assert visual_genome._find(images, visual_genome._file_of("http://x/y/../secret.jpg")) == images / "secret.jpg"


def test_the_page_of_a_comparison_opens_no_image_outside_the_folders(images, monkeypatch):
    """The names stand in result folders of others."""
    monkeypatch.chdir(images.parent)
    secret, held = images.parent / "secret.jpg", images / "a" / "in.jpg"
    for options in ({"images": [images], "data": None}, {"images": [], "data": images}):
        find = finder(argparse.Namespace(**options))
        for name in (str(secret), "secret.jpg", "images/../secret.jpg", f"{images}/../secret.jpg"):
            assert find(name) is None, name
        assert find(str(held)) == held
        assert find("images/a/in.jpg") == held
    assert finder(argparse.Namespace(images=[], data=None))(str(secret)) is None
