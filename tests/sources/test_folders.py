"""Folders of photos that hold links: followed, each folder once."""

from pathlib import Path

import pytest

from relpretrain.inspect.audit.compare import find_images
from relpretrain.sources import read_image_text
from relpretrain.sources.common.folders import files_below
from relpretrain.zeroshot.tasks.common.images import ImageFinder
from tests.sources.helpers import records, write_image


@pytest.fixture
def photos(tmp_path):
    """A folder with a photo, a link to another disk, and links that lead back and to a folder beside it."""
    disk, photos = tmp_path / "disk", tmp_path / "photos"
    for place in (photos / "own/a.jpg", disk / "deep/b.jpg"):
        write_image(place)
        place.with_suffix(".txt").write_text("a cat")
    (photos / "disk").symlink_to(disk)
    (photos / "again").symlink_to(photos / "own")
    (photos / "own/up").symlink_to(photos)
    (disk / "deep/back").symlink_to(disk)
    return photos


def test_links_are_followed_and_each_folder_is_met_once(photos):
    found = [str(path.relative_to(photos)) for path in files_below(photos)]
    assert found == ["own/a.jpg", "own/a.txt", "disk/deep/b.jpg", "disk/deep/b.txt"]
    link = photos.parent / "link"
    link.symlink_to(photos)
    assert [str(path.relative_to(link)) for path in files_below(link)] == found


def test_photos_behind_links_are_read_by_every_command(photos):
    found, dropped = records(read_image_text, photos, None)
    assert [record["image_id"] for record in found] == ["disk/deep/b.jpg", "own/a.jpg"]
    assert not dropped
    assert ImageFinder([photos]).find("b.jpg") == photos / "disk/deep/b.jpg"
    write_image(photos.parent / "disk/deep/COCO_val2014_000000000009.jpg")
    found = find_images([photos], {"coco:9"})
    assert list(found.values()) == [photos / "disk/deep/COCO_val2014_000000000009.jpg"]


def test_a_link_to_nothing_is_a_file_that_is_missing(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(Path("nowhere.jpg"))
    assert [path.name for path in files_below(tmp_path)] == ["gone.jpg"]
