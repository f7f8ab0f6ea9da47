"""What is said of a schedule beside its plan: a warning where a batch is larger than its data."""

from types import SimpleNamespace

from relpretrain.data.sampling.summary import crowded_lines


def schedule(batch_size, sizes, probability=1.0):
    stream = SimpleNamespace(batch_size=batch_size)
    probabilities = {"graphs": probability}
    return SimpleNamespace(streams={"graphs": stream}, sizes=lambda: sizes, probabilities=probabilities)


def test_a_sample_that_comes_several_times_in_a_batch_is_told():
    (line,) = crowded_lines(schedule(128, {("graphs", "mine"): 4, ("graphs", "vg"): 128}))
    assert line.startswith("stream graphs: mine has 4 samples and a batch 128, so that each sample comes 32 times in")
    assert line.endswith("set data.streams.graphs.batch_size to 4 or less, or bring more images")


def test_other_data_is_no_news():
    assert crowded_lines(schedule(4, {("graphs", "mine"): 4})) == []
    assert crowded_lines(schedule(8, {("graphs", "mine"): 4}, probability=0.0)) == []
    assert crowded_lines(schedule(8, {("graphs", "mine"): 0})) == []
