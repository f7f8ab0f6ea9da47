"""VMA and VSG are the view losses on other pairs; features are shared."""

import dataclasses

import pytest
import torch

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.features import Features, patch_mask
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import RelationModule
from relpretrain.training.metric_buffer import MetricBuffer
from relpretrain.types import Regions, TextBatch
from tests.objectives.standin import StandIn, captions, graphs, regions


@pytest.mark.parametrize(("objective", "batch"), [(VMA, regions), (VSG, graphs)])
def test_a_sum_of_views_is_its_terms(objective, batch):
    data, seed = batch(), torch.Generator().manual_seed(0)
    output = objective(itc=0.5, itm=2.0, mlm=1.0, weight=3.0)(Features(StandIn(), data, [data.pairs], seed))
    view = Features(StandIn(), data, [data.pairs], torch.Generator().manual_seed(0)).view(data.pairs)
    itc, itm, mlm = (float(term().term(view).loss) for term in (ITC, ITM, MLM))
    assert float(output.loss) == pytest.approx(3 * (0.5 * itc + 2 * itm + mlm), rel=1e-5)
    assert set(output.parts) == {"itc", "itm", "mlm"}


def test_a_box_that_covers_the_image_is_the_image():
    """A caption's row in a region batch is paired with what a caption batch pairs it with: no negative of its image."""
    batch = regions()  # the second box covers its image
    of_regions = Features(StandIn(), batch, [batch.pairs]).view(batch.pairs).image_ids
    assert of_regions[1] == batch.image_ids[batch.pairs.image_index[1]]
    assert len({*of_regions.tolist(), *batch.image_ids.tolist()}) == 5


def test_vma_learns_from_rows_for_whole_images():
    batch = regions()
    expected = VMA()(Features(StandIn(), batch, [batch.pairs], torch.Generator().manual_seed(0)))
    batch.pairs.whole = torch.tensor([False, True, False, False])
    output = VMA()(Features(StandIn(), batch, [batch.pairs], torch.Generator().manual_seed(0)))
    assert torch.equal(output.loss, expected.loss)
    assert output.counts == expected.counts == {**output.counts, "itc": 4}


@pytest.mark.parametrize("vision", ["vit", "swin"])
def test_a_region_of_all_patches_is_the_whole_image(vision):
    sizes = {"vision": vision, "image_size": 32, "patch_size": 4, "vocab_size": 20, "dropout": 0.0}
    if vision == "swin":
        sizes |= {"vision_width": 32, "window_size": 4, "vision_heads": (2, 2), "vision_depth": (1, 1)}
    model, images = XVLM("tiny", **sizes).eval(), torch.randn(2, 3, 32, 32)
    mask = patch_mask(torch.tensor([[0.5, 0.5, 1.0, 1.0]] * 2), model.patch_grid)
    features = model.encode_image(images, Regions(torch.arange(2), mask))
    assert torch.equal(features.region_mask, features.mask)
    torch.testing.assert_close(features.region_tokens, features.tokens)


def test_vsg_adds_no_parameters():
    assert not list(VSG().parameters())


def test_an_image_is_encoded_once_for_all_objectives():
    model, batch = StandIn(), graphs()
    mrc = MRC(RelationVocabulary(["on", "under"]))
    mrc.attach(model)
    objectives = [VSG(), mrc]
    features = Features(model, batch, [p for o in objectives for p in o.views(batch)])
    for objective in objectives:
        objective(features)
    assert model.image_calls == [2]


def test_regions_that_were_not_announced_are_refused():
    batch = regions()
    with pytest.raises(ValueError, match="views"):
        VMA()(Features(StandIn(), batch, []))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.5, 0.5, 1.0, 1.0), "11 11"),
        ((0.25, 0.25, 0.5, 0.5), "10 00"),
        ((0.75, 0.25, 0.5, 0.5), "01 00"),
        ((0.5, 0.75, 0.2, 0.1), "00 11"),
        ((0.99, 0.99, 0.001, 0.001), "00 01"),
    ],
)
def test_patches_of_a_box(box, expected):
    mask = patch_mask(torch.tensor([box]), (2, 2))[0].int().tolist()
    assert "{}{} {}{}".format(*mask) == expected


def test_patch_mask_follows_x_vlms_rule_on_pixels():
    """x_min = min(floor(x / P), n - 1), x_max = max(x_min + 1, min(ceil((x + w) / P), n)); 224 pixels, P = 32."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        x, y = (int(v) for v in torch.randint(0, 223, (2,), generator=generator))
        w = int(torch.randint(1, 224 - x + 1, (1,), generator=generator))
        h = int(torch.randint(1, 224 - y + 1, (1,), generator=generator))
        x0, y0 = min(x // 32, 6), min(y // 32, 6)
        x1, y1 = max(x0 + 1, min(-(-(x + w) // 32), 7)), max(y0 + 1, min(-(-(y + h) // 32), 7))
        expected = torch.zeros(7, 7, dtype=torch.bool)
        expected[y0:y1, x0:x1] = True
        box = torch.tensor([[(x + w / 2) / 224, (y + h / 2) / 224, w / 224, h / 224]])
        assert torch.equal(patch_mask(box, (7, 7))[0], expected.flatten())


def empty(batch):
    """The same batch without pairs."""
    names = ("input_ids", "attention_mask", "masked_input_ids", "labels")
    text = TextBatch(*(getattr(batch.pairs.text, name)[:0] for name in names))
    boxes = None if batch.pairs.boxes is None else batch.pairs.boxes[:0]
    pairs = dataclasses.replace(
        batch.pairs,
        text=text,
        image_index=batch.pairs.image_index[:0],
        text_keys=batch.pairs.text_keys[:0],
        boxes=boxes,
    )
    return dataclasses.replace(batch, pairs=pairs)


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize(
    ("objective", "make"),
    [(ITC, captions), (ITM, captions), (MLM, captions), (VSG, graphs), (VMA, regions), (BOX, regions)],
)
def test_no_pairs_are_a_zero_of_count_zero(objective, make, images):
    """The stand-in refuses empty tensors, as real models do."""
    model, batch = StandIn(), empty(make())
    if not images:
        batch.images, batch.image_ids = batch.images[:0], batch.image_ids[:0]
    output = objective()(Features(model, batch, [batch.pairs]))
    assert output.count == 0
    assert not any(output.counts.values())
    assert not output.metrics
    assert float(output.loss) == 0
    output.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    window = MetricBuffer()
    window.add(0, "", output.loss, {"it": output})
    assert window.means() == {}


def test_what_did_not_happen_in_a_sum_is_not_logged():
    batch = graphs()
    batch.pairs.text.labels[:] = -100
    output = VSG()(Features(StandIn(), batch, [batch.pairs]))
    assert output.count == 2
    window = MetricBuffer()
    window.add(0, "", output.loss, {"vsg": output})
    assert set(window.means()) == {"loss", "vsg_itc", "vsg_itm", "vsg_itc_accuracy", "vsg_itm_accuracy"}


def test_each_term_of_a_sum_has_its_own_count():
    batch = graphs()
    batch.pairs.text.labels[0, 2] = 5
    output = VSG()(Features(StandIn(), batch, [batch.pairs]))
    assert {name: int(count) for name, count in output.counts.items()} == {
        **{"itc": 2, "itc_accuracy": 2, "itm": 2, "itm_accuracy": 6, "mlm": 3, "mlm_accuracy": 3}
    }


def test_a_teacher_encodes_only_the_regions_that_it_teaches():
    sizes = {"image_size": 4, "patch_size": 2, "vocab_size": 20, "queue_size": 4, "momentum": 0.9}
    backbone = ALBEF("tiny", **sizes)
    encoded = {"student": [], "teacher": []}
    for name, model in (("student", backbone), ("teacher", backbone.teacher.model)):
        model.vision.register_forward_pre_hook(
            lambda _, given, name=name: encoded[name].append(0 if given[1] is None else len(given[1].image_index))
        )
    mrc = MRC(RelationVocabulary(["on", "under"]))
    module = RelationModule(backbone, {"mrc": mrc, "vsg": VSG(), "vma": VMA()})
    module.training_step(dataclasses.replace(graphs(), objectives=("mrc", "vsg")))
    assert encoded == {"student": [4], "teacher": [0]}
    module.training_step(dataclasses.replace(regions(), objectives=("vma",)))
    assert encoded == {"student": [4, 4], "teacher": [0, 4]}


def test_processes_tell_their_sizes_once_for_a_view(monkeypatch):
    from relpretrain.backbones import momentum
    from relpretrain.features import view

    asked = []
    monkeypatch.setattr(view, "gather_sizes", lambda rows: asked.append(rows) or [rows])
    monkeypatch.setattr(momentum, "gather_sizes", lambda rows: asked.append(rows) or [rows])
    sizes = {"image_size": 4, "patch_size": 2, "vocab_size": 20, "queue_size": 16, "momentum": 0.9}
    module = RelationModule(ALBEF("tiny", **sizes), {"first": ITC(), "second": ITC(0.5)})
    module.training_step(captions(5))
    assert asked == [5]  # two contrasts and the teacher's queue
