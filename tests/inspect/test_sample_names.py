"""A sample has one name, whichever command speaks of it."""

import json
import re

from relpretrain.cli import main
from relpretrain.inspect.common.survey import shards_named
from tests.data.small import picture, tokenizer, write_shards


def test_the_page_and_the_doctor_call_a_sample_alike(tmp_path, capsys):
    shards, page = write_shards(tmp_path / "mine", 2, image=lambda i: picture(i)[:200]), tmp_path / "p.html"
    assert main(["data", "doctor", shards, "--workers", "1", "--out", str(tmp_path / "d.json")]) == 1
    (found,) = json.loads((tmp_path / "d.json").read_text())["datasets"].values()
    names = {f"{bad['shard']}/{bad['key']}" for bad in found["bad"]}
    assert names == {"mine/s-000000/k000", "mine/s-000000/k001"}
    assert main(["data", "show", shards, "--out", str(page), "--draws", "1"]) == 0
    assert set(re.findall("<h2>(.*?)</h2>", page.read_text())) == names


def test_a_recipes_name_of_the_data_set_stands_beside(tmp_path):
    shards, page = write_shards(tmp_path / "mine", 1), tmp_path / "p.html"
    options = {"kind": "graphs", "datasets": {"zoo": shards}, "batch_size": 1, "objectives": ["vsg"]}
    data = {"tokenizer": tokenizer(tmp_path), "image_size": 32, "streams": {"graphs": options}}
    (tmp_path / "r.yaml").write_text(json.dumps({"data": data}))
    words = ["data", "show", "-c", str(tmp_path / "r.yaml"), "--out", str(page), "--draws", "1"]
    assert main(words) == 0
    assert "zoo · small · 40 × 30 pixels" in page.read_text()
    assert main([*words, shards]) == 0
    assert "zoo" not in page.read_text()
    assert f"<h1>Samples of {shards}, as {tmp_path / 'r.yaml'} draws them</h1>" in page.read_text()


def test_of_many_patterns_the_first_are_named():
    assert shards_named(["a"]) == "a"
    assert shards_named(list("abcde")) == "a, b, c and 2 more"
