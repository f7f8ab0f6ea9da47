"""Photos with annotations to convert."""

import pytest

from tests.sources.helpers import write_image, write_json

PHOTOS = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """VRD's format: some images listed twice over, some absent, some with a graph of nothing."""
    folder = tmp_path_factory.mktemp("photos")
    annotations = {}
    for number in range(PHOTOS):
        name = f"p{number:02d}.jpg" if number % 9 else f"gone{number}.jpg"
        name = "p01.png" if number == PHOTOS - 1 else name  # the key of an image some shards before
        if number % 9:
            write_image(folder / name, (40 + number, 30))
        ends = [{"category": i % 2, "bbox": [i, 10 + i, i, 20 + i]} for i in range(3)]
        annotations[name] = [
            {"predicate": i % 2, "subject": ends[i], "object": ends[(i + 1) % 3]} for i in (0, 1, 2, 0)
        ] * (number % 7 != 0)
    write_json(folder / "objects.json", ["person", "hat"])
    write_json(folder / "predicates.json", ["wear", "on"])
    write_json(folder / "annotations.json", annotations)
    return folder
