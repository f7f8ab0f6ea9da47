"""Further benchmarks in miniature, in the form in which their authors publish them, about plain red, blue and green."""

import csv
import json
from pathlib import Path

import numpy as np

from relpretrain.data.shards import ShardWriter
from relpretrain.synthetic.render import encode_png
from relpretrain.zeroshot.tasks.choices.spec import SIZES as SPEC
from relpretrain.zeroshot.tasks.squares.mmvp import TYPES
from tests.zeroshot.detection_folders import write_detection_folders
from tests.zeroshot.folders import dump, paint, write_folders
from tests.zeroshot.helpers import COLOURS


def write_more_folders(folder: Path) -> Path:
    """Write the annotations and images of all tasks of `squares` and `choices`, long texts and classification."""
    for write in WRITERS.values():
        write(folder)
    return folder


def write_all_folders(folder: Path) -> Path:
    """Write the annotations and images of every task but the probes that need a model."""
    write_more_folders(write_folders(folder))
    write_detection_folders(folder)
    captions = [{"image": f"{name}.png", "caption": [name, f"it is {name}"]} for name in COLOURS]
    dump(folder / "coco_retrieval" / "coco_test.json", captions)
    dump(folder / "flickr30k_retrieval" / "flickr30k_test.json", captions)
    half_truth(folder)
    rows = [{"url": f"https://x.org/VG_100K/{n}.jpg", "image_id": n, "paragraph": f"it is {n}"} for n in range(3)]
    dump(folder / "paragraphs" / "paragraphs_v1.json", rows)
    dump(folder / "paragraphs" / "test_split.json", [0, 1, 2])
    for n in range(3):
        paint(folder / "paragraphs" / "images" / f"{n}.jpg", "red")
    return folder


def half_truth(folder: Path) -> None:
    """Two images in a shard: a cat on a red and a blue thing."""
    with ShardWriter(folder / "half_truth", 2) as writer:
        for number, colour in enumerate(("red", "blue")):
            things = [{"label": name, "box": [x, 0, x + 4, 4]} for x, name in ((0, "cat"), (4, f"{colour} sofa"))]
            relations = [{"subject": 0, "relation": "on", "object": 1}]
            record = {"width": 8, "height": 4, "entities": things, "relations": relations}
            writer.write(f"{number}", encode_png(np.zeros((4, 8, 3), dtype=np.uint8)), "png", record)


def table(path: Path, columns: str, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns.split())
        writer.writerows(rows)


def lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


SQUARES = [("red", "blue", "red", "blue"), ("red blue", "blue red", "red", "blue"), ("red", "blue", "red", "red")]
"""Two texts and two images: settled by colours, equal texts, equal images."""


def squares(folder: Path, names) -> list[dict]:
    """The three squares as rows under these names of texts and images, and the images."""
    rows = []
    for n, (text0, text1, first, second) in enumerate(SQUARES):
        images = [f"{n}_{i}.png" for i in (0, 1)]
        for image, colour in zip(images, (first, second), strict=True):
            paint(folder / "images" / image, colour)
        rows.append(dict(zip(names, (text0, text1, *images), strict=True)))
    return rows


def mmvp(folder: Path) -> None:
    """A pair of two types; in the second both images are red."""
    rows = [(1, TYPES[0], "red"), (2, TYPES[0], "blue"), (3, TYPES[7], "red"), (4, TYPES[7], "blue")]
    table(folder / "mmvp" / "Questions.csv", "id type statement", rows)
    for number, kind, colour in ((1, 0, "red"), (2, 0, "blue"), (3, 7, "red"), (4, 7, "red")):
        paint(folder / "mmvp" / "MLLM_VLM Images" / TYPES[kind] / f"{number}.jpg", colour)


def colorswap(folder: Path) -> None:
    rows = squares(folder / "colorswap", ("caption_1", "caption_2", "image_1", "image_2"))
    dump(folder / "colorswap" / "test.json", rows)


def cola(folder: Path) -> None:
    rows = squares(folder / "cola", ("a", "b", "c", "d"))
    address = "https://example.org/vg_gqa_images/"
    listed = [[address + r["c"], r["a"], address + r["d"], r["b"]] for r in rows]
    dump(folder / "cola" / "COLA_multiobjects_matching_benchmark.json", listed)


def bivlc(folder: Path) -> None:
    rows = squares(folder / "bivlc", ("caption", "negative_caption", "image", "negative_image"))
    kinds = [
        {"type": "swap", "subtype": "att"},
        {"type": "replace", "subtype": "rel"},
        {"type": "swap", "subtype": "att"},
    ]
    lines(folder / "bivlc" / "test.jsonl", [row | kind for row, kind in zip(rows, kinds, strict=True)])


def rocketscience(folder: Path) -> None:
    rows = squares(folder / "rocketscience", ("text1", "text2", "image1", "image2"))
    kinds = ("['Depth']", "['Depth', 'Order']", "['Order']")
    rows = [row | {"Category": kind} for row, kind in zip(rows, kinds, strict=True)]
    lines(folder / "rocketscience" / "train.jsonl", rows)


def eqben(folder: Path) -> None:
    rows = squares(folder / "eqben", ("caption0", "caption1", "image0", "image1"))
    dump(folder / "eqben" / "eqben_subset_10percent_final.json", rows)


def vismin(folder: Path) -> None:
    """The texts of the first row stand the other way round, which the solution says."""
    rows = squares(folder / "vismin", ("text_0", "text_1", "image_0", "image_1"))
    rows[0] |= {"text_0": "blue", "text_1": "red"}
    numbers = [(0, "object"), (0, "relation"), (1, "relation")]  # they begin anew in each category
    rows = [row | {"id": n, "category": kind} for row, (n, kind) in zip(rows, numbers, strict=True)]
    lines(folder / "vismin" / "test.jsonl", rows)
    orders = [f"T{swapped:d}_I0 > T{not swapped:d}_I0 & T0_I1 > T1_I1" for swapped in (True, False, False)]
    said = [(n, order, "", kind) for (n, kind), order in zip(numbers, orders, strict=True)]
    table(folder / "vismin" / "sim_solution.csv", "idx Text Image category", said)


def vl_checklist(folder: Path) -> None:
    """Two corpora: one right, one wrong, one of equal texts; and one right."""
    spatial = [("red.png", "red", "blue"), ("red.png", "blue", "red"), ("red.png", "red", "red")]
    for name, items in (("spatial", spatial), ("action", spatial[:1])):
        listed = [[image, {"POS": [true], "NEG": [false]}] for image, true, false in items]
        dump(folder / "vl_checklist" / "Relation" / "vg" / f"{name}.json", listed)
    paint(folder / "vl_checklist" / "images" / "red.png", "red")


def hard_positives(folder: Path) -> None:
    """Right both ways, right in the first words only (brittle), wrong both ways, all alike."""
    rows = [("red", "red too", "blue"), ("red", "green", "blue red"), ("green", "blue", "red"), ("red", "red", "red")]
    rows[1] = ("it is red", "green", "blue")  # green and blue tie: wrong, not brittle
    for kind in ("relations", "attributes"):
        for prefix, column in (("data", 0), ("swapped_data", 1)):
            shared = {"image_id": "red", "image_path": "data/VG_100K/red.jpg"}
            items = [shared | {"true_caption": r[column], "false_caption": r[2]} for r in rows]
            dump(folder / "hard_positives" / prefix / f"vl_checklist_{kind}.json", items)
    paint(folder / "hard_positives" / "images" / "red.jpg", "red")


def crepe(folder: Path) -> None:
    """Two complexities of swap: the first right, the second wrong; red left and blue right of one image."""
    for complexity, caption, box in ((4, "red", (0, 0, 4, 4)), (5, "red", (4, 0, 4, 4))):
        row = (7, *box, caption, str(["blue", "green", "none"]))
        table(folder / "crepe" / f"prod_vg_hard_negs_swap_complexity_{complexity}.csv",
              "image_id x y width height caption hard_negs", [row])  # fmt: skip
    table(folder / "crepe" / "prod_vg_hard_negs_atom_complexity_4.csv",
          "image_id x y width height caption hard_negs", [(7, 0, 0, 4, 4, "blue", "['red']")])  # fmt: skip
    paint(folder / "crepe" / "images" / "7.jpg", "red", "blue")


def negbench(folder: Path) -> None:
    """Eight questions, of which the last one is wrong; the right option stands first, but for one."""
    rows = [("x/red.png", "red", "blue", "green", "none", 0, "positive")] * 6
    rows += [
        ("x/red.png", "blue", "red", "green", "none", 1, "positive"),
        ("x/red.png", "a", "red", "b", "c", 0, "negative"),
    ]
    for name in ("COCO_val", "VOC2007"):
        columns = "image_path caption_0 caption_1 caption_2 caption_3 correct_answer correct_answer_template"
        table(folder / "negbench" / f"{name}_mcq_llama3.1_rephrased.csv", columns, rows)
    paint(folder / "negbench" / "images" / "red.png", "red")


def spec(folder: Path) -> None:
    """A query per set and direction; the count is wrong from image to text."""
    for name in SPEC:
        colour = "blue" if name == "count" else "red"
        dump(
            folder / "spec" / name / "image2text.json",
            [{"query": "red.png", "keys": ["green", colour, "none"], "label": 1}],
        )
        dump(
            folder / "spec" / name / "text2image.json", [{"query": "red", "keys": ["red.png", "blue.png"], "label": 0}]
        )
        for image in ("red", "blue"):
            paint(folder / "spec" / name / f"{image}.png", image)


def snare(folder: Path) -> None:
    """ARO's items: one relation to the left of, one that has no sides; one of attributes."""
    box = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 4, "bbox_h": 4, "image_path": "red.png"}
    relation = {"true_caption": "the red cup is on the mat", "false_caption": "the mat is on the cup"}
    sideless = {"true_caption": "the red cup is near the mat", "false_caption": "the mat is near the red cup"}
    rows = [box | relation | {"relation_name": "on"}, box | sideless | {"relation_name": "near"}]
    dump(folder / "snare" / "visual_genome_relation.json", rows)
    texts = {"true_caption": "the red cup and the old mat", "false_caption": "the old cup and the mat"}
    things = {"obj1_name": "cup", "obj2_name": "mat", "attributes": ["red", "old"]}
    dump(folder / "snare" / "visual_genome_attribution.json", [box | texts | things])
    paint(folder / "snare" / "images" / "red.png", "red")


def fgovd(folder: Path) -> None:
    """Boxes on the red and the blue half of an image; the second is wrong, the third tied."""
    rows = []
    for x, true, false in (
        (0, "Red.", ["Blue.", "Green."]),
        (4, "Red.", ["Blue."]),
        (0, "Red.", ["red, too.", "Blue."]),
    ):
        box = {"bbox": [x, 0, 4, 4], "width": 8, "height": 4}
        rows.append({"img_path": "val2017/7.jpg", "pos_expression": [true], "neg_expression": false, **box})
    lines(folder / "fgovd" / "h_attributes_llava.jsonl", rows)
    paint(folder / "fgovd" / "images" / "val2017" / "7.jpg", "red", "blue")


def urban1k(folder: Path) -> None:
    for number, colour in enumerate(("red", "blue"), start=1):
        paint(folder / "urban1k" / "image" / f"{number}.jpg", colour)
        path = folder / "urban1k" / "caption" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a long text about {colour}\nand another line\n")


def dci(folder: Path) -> None:
    for number, colour in enumerate(("red", "blue", "green")):
        state = {"image": f"sa_{number}.jpg", "extra_caption": "" if number == 2 else f"all of it is {colour}"}
        dump(folder / "dci" / "annotations" / f"sa_{number}.json", state)
        paint(folder / "dci" / "images" / f"sa_{number}.jpg", colour)


def docci(folder: Path) -> None:
    rows = [
        {"image_file": f"{c}.jpg", "description": f"it is {c}", "split": s}
        for c, s in (("red", "test"), ("blue", "test"))
    ]
    lines(folder / "docci" / "docci_descriptions.jsonlines", [*rows, rows[0] | {"split": "train"}])
    for colour in ("red", "blue"):
        paint(folder / "docci" / "images" / f"{colour}.jpg", colour)


def iiw(folder: Path) -> None:
    lines(folder / "iiw" / "data.jsonl", [{"image": f"{c}.jpg", "IIW": f"a {c} field"} for c in ("red", "blue")])
    for colour in ("red", "blue"):
        paint(folder / "iiw" / "images" / f"{colour}.jpg", colour)


def classification(folder: Path) -> None:
    """Seven classes of two templates; a green image is called red."""
    root = folder / "classification" / "colours"
    names = ["red", "blue", "green", "grey", "white", "black", "pink"]
    dump(root / "classes.json", {f"n{n}": name for n, name in enumerate(names)})
    dump(root / "templates.json", ["{}", "a {} thing"])
    for n, _ in enumerate(names):
        paint(root / "images" / f"n{n}" / f"{n}.jpg", ("red", "blue", "green")[n] if n < 3 else "red")


_SQUARES = (mmvp, colorswap, cola, bivlc, rocketscience, eqben, vismin)
_CHOICES = (vl_checklist, hard_positives, crepe, negbench, spec, snare, fgovd)
_BY_EMBEDDINGS = (urban1k, dci, docci, iiw, classification)

WRITERS = {write.__name__: write for write in (*_SQUARES, *_CHOICES, *_BY_EMBEDDINGS)}
