"""Made folders of relation detection with given boxes: HICO-DET's and Open Images' files."""

import csv
from pathlib import Path

from PIL import Image

from relpretrain.sources.hico_names import VERBS
from relpretrain.sources.open_images import COLUMNS
from tests.zeroshot.folders import dump

BOXES = {"person": [0, 0, 8, 8], "horse": [6, 2, 16, 16], "cup": [1, 9, 5, 15]}
NUMBERS = {"person": 1, "horse": 19, "cup": 47}


def hico(name, *triplets, people=1):
    boxes = [{"bbox": BOXES[n], "category_id": NUMBERS[n]} for n in BOXES]
    boxes += [{"bbox": [9, 9, 12, 15], "category_id": 1}] * (people - 1)
    told = [
        {"subject_id": s, "category_id": VERBS.index(v) + 1, "object_id": list(BOXES).index(o)} for s, v, o in triplets
    ]
    return {"file_name": name, "annotations": boxes, "hoi_annotation": told}


def paint(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(path)


def write_detection_folders(data: Path) -> None:
    """Both tasks' folders, with images."""
    home = data / "hico_relations"
    test = [
        hico("a.png", (0, "ride", "horse"), (0, "sit_on", "horse"), (0, "hold", "cup")),
        hico("b.png", (0, "milk", "horse"), (3, "feed", "horse"), people=2),
        hico("c.png"),
    ]
    train = [hico(f"{n}.png", (0, "ride", "horse"), (0, "hold", "cup")) for n in range(12)]
    train += [hico("x.png", (0, "sit_on", "horse"), (0, "hold", "horse"), (0, "sit_on", "cup"))]
    dump(home / "test_hico.json", test)
    dump(home / "trainval_hico.json", train)
    for name in "ab":
        paint(home / "images" / f"{name}.png")
    other = data / "open_images_relations"
    other.mkdir()
    with (other / "oidv6-test-annotations-vrd.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerow(["k", "/m/1", "/m/2", "inside_of", 0, 0.5, 0, 0.5, 0.4, 1, 0.1, 1])
        writer.writerow(["k", "/m/2", "/m/1", "holds", 0.4, 1, 0.1, 1, 0, 0.5, 0, 0.5])
        writer.writerow(["k", "/m/1", "/m/3", "is", 0, 0.5, 0, 0.5, 0, 0.5, 0, 0.5])
    (other / "oidv6-class-descriptions.csv").write_text("/m/1,Man\n/m/2,Car\n/m/3,Wooden\n")
    paint(other / "images" / "k.jpg")
