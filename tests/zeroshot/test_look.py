import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.evaluate import evaluate, prepare
from relpretrain.zeroshot.look import leave_out_broken, why_broken
from relpretrain.zeroshot.results.scores import read_scores
from relpretrain.zeroshot.tasks import Source
from relpretrain.zeroshot.tasks.common.base import read_image
from tests.zeroshot.folders import write_svo
from tests.zeroshot.helpers import ColourScorer, write_benchmarks, write_images


@pytest.fixture
def data(tmp_path):
    write_benchmarks(tmp_path / "data")
    write_images(tmp_path / "data" / "images")
    return tmp_path / "data"


def looked(data, tasks, allow=False):
    return leave_out_broken(prepare(tasks, Source(data, allow_missing=allow))[0], allow)


def test_images_that_are_none_are_left_out_and_counted(data):
    (data / "images" / "green.png").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"1 of 3 images of vsr cannot be decoded \(.*green.png; Uniden.*--allow-m"):
        looked(data, ["vsr"])
    ready = {f"{part.task.name} {part.split}": part for part in looked(data, ["vsr", "valse"], allow=True)}
    assert [len(part.items) for part in ready.values()] == [2, 3, 3]
    assert "1 of 4 items left out, n = 3" in ready["vsr synthetic/test"].notes[-1]
    assert not any("decoded" in note for note in ready["valse "].notes)


def test_groups_are_left_out_together(tmp_path):
    write_svo(tmp_path)
    (tmp_path / "svo" / "images" / "2.jpg").write_bytes(b"")
    (part,) = looked(tmp_path, ["svo"], allow=True)
    assert sorted({item.group for item in part.items}) == ["1", "3"]


def test_images_of_which_a_part_is_missing_are_found(tmp_path):
    Image.effect_noise((400, 300), 90).convert("RGB").save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    assert why_broken(str(tmp_path / "whole.jpg")) == ""
    assert "truncated" in why_broken(str(tmp_path / "half.jpg"))
    assert "FileNotFound" in why_broken(str(tmp_path / "none.jpg"))


def test_all_images_broken_is_an_error(data):
    for path in (data / "images").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(
        ValueError, match=r"1 of 1 images of vsr cannot be decoded.*Put whole image files in their place\.$"
    ):
        looked(data, ["vsr"], allow=True)


class Stops(ColourScorer):
    """Fails at its second batch of images."""

    def encode_images(self, images):
        if self.encoded:
            raise self.error
        return super().encode_images(images)


@pytest.mark.parametrize("error", [ValueError("out of colours"), KeyboardInterrupt()])
def test_what_was_scored_is_kept(data, tmp_path, monkeypatch, error):
    monkeypatch.setattr("relpretrain.zeroshot.tasks.common.base._CHUNK", 2)
    scorer = Stops()
    scorer.error = error
    ready = [part for part in looked(data, ["vsr"]) if part.split == "synthetic/test"]
    with pytest.raises(type(error)) as raised:
        evaluate(scorer, ready, tmp_path / "out")
    path = tmp_path / "out" / "scores" / "vsr.synthetic_test.jsonl"
    assert [record["id"] for record in read_scores(path)] == [0, 1, 2]
    if isinstance(error, ValueError):
        assert str(raised.value).startswith(f"out of colours What was scored before is in {path} (3 lines)")


def test_no_half_group_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("relpretrain.zeroshot.tasks.common.base._CHUNK", 1)
    write_svo(tmp_path)
    scorer = Stops()
    scorer.error = ValueError("stop")
    with pytest.raises(ValueError, match=r"^stop$"):  # rows take two images, and one was scored
        evaluate(scorer, looked(tmp_path, ["svo"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--constant"], ["--blind", "length"]])
def test_scorers_that_do_not_look_need_no_images(tmp_path, options, capsys):
    write_benchmarks(tmp_path / "data")
    write_svo(tmp_path / "data")
    for path in (tmp_path / "data" / "svo" / "images").iterdir():
        path.unlink()
    command = ["--tasks", "vsr", "valse", "svo", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main([*options, *command]) == 0, capsys.readouterr().err
    write_images(tmp_path / "data" / "images")
    tables = [t["rows"] for t in json.loads((tmp_path / "out" / "zero_shot.json").read_text())["tables"]]
    for number in (1, 2, 3):
        Image.new("RGB", (4, 4)).save(tmp_path / "data" / "svo" / "images" / f"{number}.jpg")
    assert main([*options, *command]) == 0
    assert tables == [t["rows"] for t in json.loads((tmp_path / "out" / "zero_shot.json").read_text())["tables"]]


def test_one_picture_in_many_modes_is_scored_alike(tmp_path):
    """Eight and sixteen bits, a palette, an alpha channel, and an animation's first frame show the same pixels."""
    plain = Image.linear_gradient("L").resize((16, 12))
    plain.save(tmp_path / "plain.png")
    wide = Image.fromarray((torch.tensor(list(plain.getdata())).reshape(12, 16) * 257).numpy().astype("uint16"))
    wide.save(tmp_path / "wide.png")
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    plain.save(tmp_path / "frames.gif", save_all=True, append_images=[Image.new("L", (16, 12))])
    wanted = list(read_image(str(tmp_path / "plain.png")).getdata())
    for name in ("wide.png", "alpha.png", "frames.gif"):
        assert list(read_image(str(tmp_path / name)).getdata()) == wanted, name


def test_transparent_pixels_are_white_and_the_orientation_is_left_alone(tmp_path):
    Image.new("RGBA", (2, 3), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (2, 3), (9, 9, 9)).save(tmp_path / "key.png", transparency=(9, 9, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 3), "white").save(tmp_path / "turned.jpg", exif=exif)
    for name in ("clear.png", "key.png", "turned.jpg"):
        image = read_image(str(tmp_path / name))
        assert (image.mode, image.size, image.getpixel((1, 1))) == ("RGB", (2, 3), (255, 255, 255)), name


def test_the_picture_in_eight_and_in_sixteen_bits():
    shared = Path(__file__).resolve().parents[3] / "shared"
    folder = shared / "faulty_inputs" / "14_image_modes" / "data" / "images"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    eight, sixteen = (read_image(str(folder / f"{name}.png")) for name in ("eight", "sixteen"))
    assert list(eight.getdata()) == list(sixteen.getdata())
