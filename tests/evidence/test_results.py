import math
from dataclasses import replace

import pytest

from relpretrain.evidence.design import Run
from relpretrain.evidence.results import Figure, by_seed, composite, final, read_figures, select, write_figures

RUN = Run("ALBEF", "+both", 3, share=0.005, sort=False, mixture="1:1", world="long")
FIGURE = Figure(RUN, 1200, 0.1 + 0.2, 1e-17, "held_out_pairs/valse/relations", "accuracy", 2 / 3, 400)
NAMES = "backbone,arm,seed,share,max_relations,sort,masked,mixture,budget,world,step,seconds,teraflops,probe,metric"


def figure(probe="a/x/y", value=0.5, step=10, metric="accuracy", **changes):
    return Figure(replace(Run("ALBEF", "baseline", 1), **changes), step, 1.0, 2.0, probe, metric, value, 100)


def test_a_table_comes_back_to_the_bit(tmp_path):
    path = tmp_path / "new" / "results.csv"
    figures = [FIGURE, replace(FIGURE, run=Run("X-VLM", "baseline", 0), value=1.0, n=0)]
    write_figures(path, figures)
    assert read_figures(path) == figures
    assert isinstance(read_figures(path)[1].value, float)
    assert path.read_text().splitlines()[0] == f"{NAMES},value,n"
    assert [p.name for p in path.parent.iterdir()] == ["results.csv"]
    write_figures(path, [])
    assert read_figures(path) == []


def test_the_order_of_columns_does_not_matter(tmp_path):
    path = tmp_path / "results.csv"
    write_figures(path, [FIGURE])
    lines = [",".join(reversed(line.split(","))) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    assert read_figures(path) == [FIGURE]


def test_a_failed_write_leaves_the_old_table(tmp_path):
    path = tmp_path / "results.csv"
    write_figures(path, [FIGURE])
    before = path.read_bytes()

    def breaks():
        yield FIGURE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_figures(path, breaks())
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("share", "shares", r"has no column 'share', an unknown column 'shares'; did you mean 'share'\?.*anew"),
        (",step", ",step,step", "a column twice"),
        ("1200", "12.5", "line 2 has '12.5' in the column 'step'; expected a whole number"),
        (",false,", ",False,", "line 2 has 'False' in the column 'sort'; expected true or false"),
        (",long", ",lon", "line 2 has 'lon' in the column 'world'; did you mean 'long'"),
        (",400", "", "line 2 has 16 cells; expected 17"),
    ],
)
def test_other_tables_are_refused_in_a_line(tmp_path, old, new, message):
    path = tmp_path / "results.csv"
    write_figures(path, [FIGURE])
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        read_figures(path)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "results.csv").touch()
    with pytest.raises(ValueError, match="no column 'backbone'"):
        read_figures(tmp_path / "results.csv")


def test_selecting_by_fields_of_run_and_figure():
    figures = [figure(seed=s, step=t, share=h) for s in (1, 2) for t in (5, 10) for h in (0.01, 0.05)]
    assert select(figures, seed=2, step=(5, 10), share=0.01) == [figures[4], figures[6]]
    assert select(figures) == figures
    with pytest.raises(ValueError, match="no 'shares'; did you mean 'share'"):
        select(figures, shares=1)


def test_final_figures_are_those_of_each_runs_own_last_step():
    short = [figure(step=t, seed=1) for t in (5, 10)]
    long = [figure(step=t, seed=1, budget="compute") for t in (5, 10, 20)]
    assert final([*long, *short]) == [long[2], short[1]]


def test_composites_are_means_within_a_run():
    figures = [figure("p", 0.2), figure("q", 0.4), figure("q", 0.9, seed=2), figure("p", 0.6, step=5), figure("r", 1)]
    figures += [figure("p", 0.1, metric="auroc"), figure("q", 0.3, metric="auroc")]
    means = composite(figures, ("p", "q"), "both")
    assert [(f.run.seed, f.step, f.metric, f.n) for f in means] == [(1, 10, "accuracy", 200), (1, 10, "auroc", 200)]
    assert [f.value for f in means] == pytest.approx([0.3, 0.2])
    assert {f.probe for f in means} == {"both"}
    with pytest.raises(ValueError, match="two figures of p accuracy at step 10"):
        composite([figure("p"), figure("p", 0.7)], ("p", "q"), "both")


def test_values_by_seed_are_of_the_main_comparison_unless_said_otherwise():
    figures = [figure("p", 0.1 * s, seed=s, share=h) for s in (2, 1) for h in (Run.share, 0.2)]
    where = {"backbone": "ALBEF", "arm": "baseline"}
    assert by_seed(figures[::2], ["p"], "accuracy", **where) == {1: 0.1, 2: 0.2}
    assert by_seed(figures, ["p"], "accuracy", **where) == {1: 0.1, 2: 0.2}
    assert by_seed(figures, ["p"], "accuracy", **where, share=0.01) == {}
    assert by_seed([figure("p", math.nan)], ["p"], "accuracy", **where) == {}
    with pytest.raises(ValueError, match=r"seed 2: albef_baseline_seed-2 .* and albef_baseline_share-0.2"):
        by_seed(figures, ["p"], "accuracy", **where, share=(Run.share, 0.2))
    with pytest.raises(ValueError, match=r"two figures of seed 1: .* at step 10 and .* at step 5"):
        by_seed([figure("p"), figure("p", step=5)], ["p"], "accuracy", **where)
