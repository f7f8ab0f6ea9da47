import re
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from benchmarks.ablation.pages.plots import Panel, plot_lines, plot_settings

LINES = {
    "baseline": {10: [0.5, 0.52], 20: [0.5, 0.49]},
    "+both": {10: [0.6, 0.7], 20: [0.9]},
    "other": {10: [], 20: [1]},
}
VALUES = {"baseline": [0.5, 0.52, 0.49], "+both": [0.9], "+VSG": []}


def texts(path):
    return [element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("draw", [lambda path: plot_lines([Panel("swap", LINES, 0.5)], path),
                                  lambda path: plot_settings([Panel("swap", VALUES, 0.5)], path)])  # fmt: skip
def test_equal_figures_give_equal_bytes_whatever_the_user_set(draw, tmp_path):
    draw(tmp_path / "new" / "a.svg")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        draw(tmp_path / "b.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "new" / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "swap" in texts(tmp_path / "b.svg")
    assert "dc:date" not in (tmp_path / "b.svg").read_text()
    assert float(re.search(r'width="([\d.]+)pt"', (tmp_path / "b.svg").read_text())[1]) / 72 * 96 < 700


def test_lines_have_a_legend_and_an_axis(tmp_path):
    plot_lines([Panel(title, LINES) for title in ("one", "two", "three")], tmp_path / "a.svg", "teraflops")
    found = texts(tmp_path / "a.svg")
    assert {"one", "two", "three", "baseline", "+both", "other"} <= set(found)
    assert found.count("baseline") == 1
    assert found.count("teraflops") == 2


def drawn_lines(path, colour):
    """How many lines of a colour a plot has, thin and thick."""
    paths = [p.get("style", "") for p in ET.parse(path).iter("{http://www.w3.org/2000/svg}path")]
    own = [style for style in paths if f"stroke: {colour}" in style and "fill: none" in style]
    return sum("stroke-width: 0.6" in style for style in own), sum("stroke-width: 1.4" in style for style in own)


def test_every_seed_is_a_line_behind_the_mean(tmp_path):
    plot_lines([Panel("one", LINES)], tmp_path / "a.svg")
    assert drawn_lines(tmp_path / "a.svg", "#555555")[0] == 2
    assert marks(tmp_path / "a.svg", "axes_1")["#009e73"] >= 3  # three values, of unequal numbers of seeds


def test_settings_without_values_keep_their_row(tmp_path):
    plot_settings([Panel("one", VALUES), Panel("two", {"baseline": [0.1]})], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert [found.count(name) for name in VALUES] == [1, 1, 1]


def marks(path, axes):
    """How many marks of each colour are drawn in one of the pictures."""
    root = ET.parse(path).getroot()
    (group,) = (g for g in root.iter() if g.get("id") == axes)
    uses = [use.get("style", "") for use in group.iter("{http://www.w3.org/2000/svg}use")]
    return {colour: sum(colour in style for style in uses) for colour in ("#555555", "#009e73", "#0072b2")}


def test_every_seed_is_a_dot_beside_the_mean(tmp_path):
    plot_settings([Panel("one", VALUES)], tmp_path / "a.svg")
    assert marks(tmp_path / "a.svg", "axes_1") == {"#555555": 4, "#009e73": 2, "#0072b2": 0}


def test_a_plot_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(AttributeError):
        plot_lines([Panel("one", {"baseline": None})], tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
