"""VMA and VSG are the view losses on other pairs; features are shared."""

import pytest
import torch

from relpretrain.features import Features, patch_mask
from relpretrain.objectives import ITC, ITM, MLM, MRC, VMA, VSG
from relpretrain.scene_graph import RelationVocabulary
from tests.objectives.standin import StandIn, graphs, regions


@pytest.mark.parametrize(("objective", "batch"), [(VMA, regions), (VSG, graphs)])
def test_a_sum_of_views_is_its_terms(objective, batch):
    data, seed = batch(), torch.Generator().manual_seed(0)
    output = objective(itc=0.5, itm=2.0, mlm=1.0, weight=3.0)(Features(StandIn(), data, [data.pairs], seed))
    view = Features(StandIn(), data, [data.pairs], torch.Generator().manual_seed(0)).view(data.pairs)
    itc, itm, mlm = (float(term().term(view).loss) for term in (ITC, ITM, MLM))
    assert float(output.loss) == pytest.approx(3 * (0.5 * itc + 2 * itm + mlm), rel=1e-5)
    assert set(output.parts) == {"itc", "itm", "mlm"}


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
