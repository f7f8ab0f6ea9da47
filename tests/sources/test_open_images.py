import pytest

from relpretrain.sources import read_open_images
from tests.sources.helpers import records, triplets, write_image

HEAD = "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2,RelationshipLabel"
PERSON, HAT = "0.1,0.5,0.2,0.8", "0.2,0.4,0.1,0.3"  # XMin, XMax, YMin, YMax


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "00aa.jpg", (100, 50))
    write_image(tmp_path / "00bb.jpg", (100, 50))
    (tmp_path / "classes.csv").write_text("LabelName,DisplayName\n/m/01,Person\n/m/02,Cowboy hat\n")
    (tmp_path / "attributes.csv").write_text('/m/03,"Wooden, old"\n')
    return tmp_path


def read(folder, *rows, head=HEAD):
    (folder / "vrd.csv").write_text("\n".join([head, *rows]) + "\n")
    return records(read_open_images, folder, folder / "vrd.csv", [folder / "classes.csv", folder / "attributes.csv"])


def test_boxes_are_shares_in_the_order_of_the_table(folder):
    found, dropped = read(
        folder,
        f"00aa,/m/01,/m/02,{PERSON},{HAT},wears",
        f"00bb,/m/01,/m/02,{PERSON},{HAT},inside_of",
        f"00aa,/m/02,/m/03,{HAT},{HAT},is",
    )
    assert [r["image_id"] for r in found] == ["00aa", "00bb"]
    person, hat = ("person", (10, 10, 50, 40)), ("cowboy hat", (20, 5, 40, 15))
    assert triplets(found[0]) == [(person, "wears", hat)]
    assert triplets(found[1]) == [(person, "inside of", hat)]
    assert [e["attributes"] for e in found[0]["entities"]] == [[], ["wooden, old"]]
    assert not dropped


def test_counts_what_it_drops(folder):
    (record,), dropped = read(
        folder,
        f"00aa,/m/01,/m/99,{PERSON},{HAT},wears",
        f"00aa,/m/01,/m/02,{PERSON},0.2,0.4,x,0.3,wears",
        f"00aa,/m/01,/m/02,{PERSON},0.2,1.4,0.1,0.3,wears",
        "00aa,/m/01",
        "",
        f"00cc,/m/01,/m/02,{PERSON},{HAT},wears",
    )
    assert [e["label"] for e in record["entities"]] == ["person"]
    assert dropped == {
        "unknown_class": 1,
        "malformed_box": 1,
        "box_outside_image": 1,
        "relation_without_entity": 1,
        "malformed_row": 1,
        "missing_image": 1,
    }


def test_refuses_another_table(folder):
    with pytest.raises(ValueError, match=r"lacks the columns LabelName1, .*first line is ImageID,Label"):
        read(folder, head="ImageID,Label")
    (folder / "attributes.csv").unlink()
    with pytest.raises(ValueError, match=r"cannot read names of classes from .*attributes\.csv"):
        read(folder)
