"""A folder per benchmark in miniature, in the form in which its authors publish it, about plain red, blue and green."""

import csv
import json
from pathlib import Path

from PIL import Image

from relpretrain.zeroshot.tasks.composition.sugarcrepe import SIZES as SUGARCREPE
from relpretrain.zeroshot.tasks.composition.sugarcrepe_pp import SIZES as SUGARCREPE_PP
from tests.zeroshot.helpers import COLOURS, write_benchmarks, write_images


def write_folders(folder: Path) -> Path:
    """Write the annotations and images of all benchmarks that have files of their own."""
    write_benchmarks(folder)
    write_images(folder / "images")
    for write in (write_svo, write_winoground, write_aro, write_sugarcrepe, write_sugarcrepe_pp, write_whatsup):
        write(folder)
    write_predcls(folder)
    return folder


def write_predcls(folder: Path) -> None:
    """Two images in VRD's form: boxes [y_min, y_max, x_min, x_max]; training knows one of three kinds of triplets."""
    names = [f"thing {n}" for n in range(12)]
    dump(folder / "predcls" / "objects.json", names)
    dump(folder / "predcls" / "predicates.json", ["on", "next to"])

    def triplet(subject, predicate, target):
        ends = ({"category": n, "bbox": [0, 4, n, n + 1]} for n in (subject, target))
        return dict(zip(("predicate", "subject", "object"), (predicate, *ends), strict=True))

    ring = [triplet(n, 0, (n + 1) % 12) for n in range(12)]
    dump(folder / "predcls" / "annotations_test.json", {"a.png": ring, "b.png": [triplet(0, 1, 1)], "c.png": []})
    dump(folder / "predcls" / "annotations_train.json", {"d.png": ring[:3]})
    for name in "ab":
        paint(folder / "predcls" / "images" / f"{name}.png", "red", "blue", "green")


def paint(path: Path, *names: str) -> None:
    """An image of vertical stripes of 4 pixels, losslessly stored whatever its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (4 * len(names), 4))
    for number, name in enumerate(names):
        image.paste(COLOURS[name], (4 * number, 0, 4 * number + 4, 4))
    image.save(path, format="PNG")


def dump(path: Path, state) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state))


def write_svo(folder: Path) -> None:
    """Five rows about three images; the second repeats the first's positive pair, the last has two negative parts."""
    columns = "sentence pos_triplet neg_triplet pos_url neg_url pos_image_id neg_image_id subj_neg verb_neg obj_neg"
    rows = [
        ("it is red", "a,b,c", "d,b,c", "u", "u", 1, 2, True, False, False),
        ("it is red", "a,b,c", "e,b,c", "u", "u", 1, 3, True, False, False),
        ("it is blue", "a,b,c", "a,d,c", "u", "u", 2, 1, False, True, False),
        ("it is red or green", "a,b,c", "a,b,d", "u", "u", 3, 1, False, False, True),
        ("it is green", "a,b,c", "d,d,c", "u", "u", 3, 2, True, True, False),
    ]
    (folder / "svo").mkdir(parents=True)
    with (folder / "svo" / "svo_probes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns.split())
        writer.writerows(rows)
    for number, name in enumerate(COLOURS, start=1):
        paint(folder / "svo" / "images" / f"{number}.jpg", name)


def write_winoground(folder: Path) -> None:
    """Three examples: one that colours settle, one whose texts are equally good, one settled for texts only."""
    examples = [
        ("red", "blue", "red", "blue", "Relation", 1, ""),
        ("red blue", "blue red", "red", "blue", "Object", 1, "Symbolic, Series"),
        ("red", "blue", "red", "red", "Relation", 2, "Series"),
    ]
    lines = []
    for number, (text0, text1, first, second, tag, predicates, secondary) in enumerate(examples):
        names = [f"ex_{number}_img_{i}" for i in (0, 1)]
        line = {"id": number, "caption_0": text0, "caption_1": text1, "image_0": names[0], "image_1": names[1]}
        tags = {"collapsed_tag": tag, "num_main_preds": predicates, "secondary_tag": secondary}
        lines.append(json.dumps({**line, **tags}) + "\n")
        for name, colour in zip(names, (first, second), strict=True):
            paint(folder / "winoground" / "images" / f"{name}.png", colour)
    (folder / "winoground" / "examples.jsonl").write_text("".join(lines))


def write_aro(folder: Path) -> None:
    """Two halves of one image. "by" is one of the 157 relations; one pair of attributes has 25 items, the other 2."""
    left, right = {"bbox_x": 0, "bbox_w": 4}, {"bbox_x": 4, "bbox_w": 4}

    def case(box, true, false, **more):
        captions = {"true_caption": true, "false_caption": false}
        return {"image_path": "halves.jpg", "bbox_y": 0, "bbox_h": 4, **box, **captions, **more}

    relations = [
        case(left, "red on it", "blue on it", relation_name="on"),
        case(left, "blue on it", "red on it", relation_name="on"),
        case(right, "blue in it", "red in it", relation_name="in"),
        case(right, "blue by it", "red by it", relation_name="by"),
    ]
    many = [case(left, "red and old", "blue and old", attributes=["red", "old"])] * 25
    few = [case(left, "red and new", "blue and new", attributes=["red", "new"])] * 2
    dump(folder / "aro" / "visual_genome_relation.json", relations)
    dump(folder / "aro" / "visual_genome_attribution.json", many + few)
    texts = ["red one", "one red", "one", "two", "three"]
    dump(folder / "aro" / "coco_order.json", [{"image": "halves.jpg", "caption_options": texts}] * 3)
    dump(folder / "aro" / "flickr30k_order.json", [{"image": "halves.jpg", "caption_options": ["blue", *texts[:4]]}])
    paint(folder / "aro" / "images" / "halves.jpg", "red", "blue")


def write_sugarcrepe(folder: Path) -> None:
    """Two items a file; keys have a gap, as swap_obj's have."""
    for name in SUGARCREPE:
        first = {"filename": "red.png", "caption": "red", "negative_caption": "blue"}
        second = {"filename": "blue.png", "caption": "red", "negative_caption": "blue"}
        dump(folder / "sugarcrepe" / f"{name}.json", {"0": first, "2": second})


def write_sugarcrepe_pp(folder: Path) -> None:
    """Three items a file: both captions right, the second wrong, all alike."""
    rows = [("red", "it is red", "blue"), ("red", "green", "blue"), ("red", "red too", "red as well")]
    keys = ("caption", "caption2", "negative_caption")
    for name in SUGARCREPE_PP:
        items = [{"id": n, "filename": "red.png", **dict(zip(keys, row, strict=True))} for n, row in enumerate(rows)]
        dump(folder / "sugarcrepe_pp" / f"{name}.json", items)


def write_whatsup(folder: Path) -> None:
    """One whole set of four in A, of which the image "under" is of another colour, half a set in B, one item a rest."""
    root = folder / "whatsup"
    for file, kinds, prepositions in (
        ("controlled_images", "controlled_images", ("left_of", "right_of", "on", "under")),
        ("controlled_clevr", "controlled_clevr", ("left_of", "right_of")),
    ):
        items = []
        for preposition in prepositions:
            path = f"{kinds}/cup_{preposition}_table.jpeg"
            items.append({"image_path": f"data/{path}", "caption_options": ["red", "blue", "green", "none"]})
            paint(root / "images" / path, "blue" if preposition == "under" else "red")
        dump(root / f"{file}_dataset.json", items)
    dump(root / "coco_qa_one_obj.json", [[7, "a red dog on the left", "a blue dog on the right"]])
    dump(root / "coco_qa_two_obj.json", [[7, "a red dog above a cat", "a blue dog below a cat"]])
    dump(root / "vg_qa_one_obj.json", [[8, "a blue dog on the left", "a red dog on the right"]])
    dump(root / "vg_qa_two_obj.json", [[8, "red dog behind a cat", "red dog in front of a cat"]])
    paint(root / "images" / "val2017" / "000000000007.jpg", "red")
    paint(root / "images" / "vg_images" / "8.jpg", "red")
