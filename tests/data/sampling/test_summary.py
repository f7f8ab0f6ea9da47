"""What is said of a schedule beside its plan: a line, and warnings of data too small for a batch or a run."""

from types import SimpleNamespace

from relpretrain.data.sampling.summary import crowded_lines, passes, share_line, worn_lines


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


def taking(samples, size, **streams):
    """A schedule that takes so many samples of each stream's one data set, whatever the number of batches."""
    found = schedule(8, {(name, "mine"): size for name in streams})
    found.streams = dict.fromkeys(streams, SimpleNamespace(batch_size=8, datasets=["mine"]))
    found.probabilities = streams
    found.taken = lambda batches: {(name, "mine"): samples for name in streams}
    return found


def test_the_header_says_how_often_a_sample_is_seen():
    plan = taking(1500, 1200, captions=0.25, graphs=0.75)
    assert passes(plan, 100) == {("captions", "mine"): 1.25, ("graphs", "mine"): 1.25}
    line = share_line(plan, {("graphs", "mine"): {"no_box": 12}}, passes(plan, 100))
    assert line == "captions 25 % (1,200 samples, seen 1.2 times), graphs 75 % (1,200, 12 never drawn, 1.2 times)"
    several = share_line(plan, {}, {("captions", "a"): 0.031, ("captions", "b"): 1333.3})
    assert several == "captions 25 % (1,200 samples, seen 0.031 to 1,333 times), graphs 75 % (1,200)"


def test_samples_that_are_seen_again_and_again_are_told():
    few, many = taking(900, 3, graphs=1.0), taking(4000, 3, graphs=1.0)
    assert worn_lines(few, passes(few, 450)) == []
    (line,) = worn_lines(many, passes(many, 2000))
    assert line.startswith("stream graphs: each of the 3 samples of mine is seen 1,333 times, and a model may learn")
    assert "draw it less (data.streams.graphs.ratio)" in line
