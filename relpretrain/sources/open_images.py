"""Open Images V6: visual relationships, from their tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import Join, inside
from relpretrain.sources.common.tables import csv_rows, table_rows

COLUMNS = (
    *("ImageID", "LabelName1", "LabelName2", "RelationshipLabel"),
    *("XMin1", "XMax1", "YMin1", "YMax1", "XMin2", "XMax2", "YMin2", "YMax2"),
)


def read_open_images(
    images: Path,
    relationships: Path,
    classes: Sequence[Path],
    *,
    dropped: Counter[str],
    meter: Meter | None = None,
) -> Iterator[Annotation]:
    """Read images with scene graphs, in the order in which the table first names them.

    A row "is" gives an entity an attribute. Objects of one label with one box are one entity. Boxes are fractions of
    the image, in the order XMin, XMax, YMin, YMax. Relations lose their underscores ("inside_of").

    Args:
        images: Folder of the images, `ID.jpg`.
        relationships: `oidv6-train-annotations-vrd.csv`, or validation's or test's.
        classes: Tables of names for the labels' ids, such as `oidv6-class-descriptions.csv` and
            `oidv6-attributes-description.csv`.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If a file is absent or the table lacks a column.
    """
    check_folder(images)
    names: dict[str, str] = {}
    for path in classes:
        for line, cells in csv_rows(path, "names of classes"):
            if cells is None or len(cells) < 2:
                note(dropped, "malformed_row", f"{path.name}, line {line}")
            else:
                names[cells[0]] = cells[1]
    what = "relationships of Open Images"
    rows = table_rows(relationships, what, dropped, columns=COLUMNS, meter=meter)
    sound = ([row[column] for column in COLUMNS] for _, row in rows)
    join = Join()
    for image, group in groupby(sound, key=lambda row: row[0]):
        join.add(image, "rows", list(group))
    for image, pieces in join.images(meter):
        table = [row for rows_ in pieces.read()["rows"] for row in rows_]
        entities, relations = _graph(table, names, dropped)
        yield Annotation(inside(images, f"{image}.jpg"), image, entities=entities, relations=relations, fractions=True)


def _graph(
    rows: list[list[str]], names: dict[str, str], dropped: Counter[str]
) -> tuple[list[RawEntity], list[tuple[int, Any, int]]]:
    entities: list[RawEntity] = []
    relations: list[tuple[int, Any, int]] = []
    numbers: dict[tuple[Any, ...], int] = {}

    def number(label: str, corners: list[str]) -> int:
        x_min, x_max, y_min, y_max = (float(value) for value in corners)
        identity = (label, x_min, y_min, x_max, y_max)
        if identity not in numbers:
            numbers[identity] = len(entities)
            entities.append(RawEntity(names[label], identity[1:]))
        return numbers[identity]

    for _, first, second, relation, *boxes in rows:
        if first not in names or second not in names:
            dropped["unknown_class"] += 1
            continue
        try:
            subject = number(first, boxes[:4])
            if relation == "is":
                entities[subject].attributes.append(names[second])
            else:
                relations.append((subject, relation.replace("_", " "), number(second, boxes[4:])))
        except ValueError:
            dropped["malformed_box"] += 1
    return entities, relations
