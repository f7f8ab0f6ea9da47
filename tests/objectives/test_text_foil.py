"""True texts against foils: each equation against a loop, and what must not change anything."""

import math

import pytest
import torch

from relpretrain.features import Features
from relpretrain.objectives import TextFoil
from relpretrain.objectives import foils as equations
from relpretrain.objectives.text_foil import PRESETS, SITES
from relpretrain.scene_graph.foils import KINDS
from tests.objectives.standin import StandIn, captions, with_foils

INF = float("-inf")


def features(batch, model=None):
    return Features(model or StandIn(), batch, [batch.pairs, batch.foils.pairs])


def scores(batch, model):
    """Cosines of true pairs and of foils with their images and true texts, temperature, and match logits."""
    seen = features(batch, model)
    true, false, of = seen.view(batch.pairs), seen.view(batch.foils.pairs), batch.foils.of
    image, text, foil = true.image_embedding, true.text_embedding, false.text_embedding
    cosines = (image * text).sum(1), (image[of] * foil).sum(1), (text[of] * foil).sum(1)
    return *(c.tolist() for c in cosines), float(model.temperature), true.matched, false.matched


def cross_entropy(own, others):
    return math.log(sum(math.exp(x - own) for x in [own, *others]))


def test_the_focal_loss_has_a_slope_where_nothing_is_left_to_learn():
    """A text without foils, and one that is far from its foil, whatever the exponent."""
    for gamma in (0.0, 0.5, 1.0, 2.0):
        rows = torch.tensor([[1.0, float("-inf")], [200.0, 0.0], [0.0, 0.0]], requires_grad=True)
        equations.focal(rows, gamma, 0.0).sum().backward()
        assert rows.grad.isfinite().all(), gamma
        assert rows.grad[2, 0] < 0


def focal(own, others, gamma, smoothing):
    logits = [own, *others]
    total = sum(math.exp(x) for x in logits)
    loss = 0.0
    for k, x in enumerate(logits):
        p = math.exp(x) / total
        y = smoothing / len(logits) + (1 - smoothing) * (k == 0)
        loss += (1 - p) ** gamma * -y * math.log(p)
    return loss


def rows(own, foils, of):
    """Each row that has foils, with their scores."""
    return [(own[i], [foils[j] for j, row in enumerate(of) if row == i]) for i in sorted(set(of))]


@pytest.mark.parametrize("site", ["itc_row", "itm", "text_text"])
@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_rows_equal_a_loop(site, loss):
    batch, model = with_foils(captions(5)), StandIn()
    own, foil, beside, temperature, matched, foil_matched = scores(batch, model)
    of = batch.foils.of.tolist()
    if site == "itm":
        own = (matched[:, 1] - matched[:, 0]).tolist()
        foil = (foil_matched[:, 1] - foil_matched[:, 0]).tolist()
    else:
        own, foil = ([x / temperature for x in values] for values in (own, foil if site == "itc_row" else beside))
    objective = TextFoil(sites={site: 0.5}, loss=loss, gamma=1.5, smoothing=0.1, weight=2.0)
    if site == "itm" and loss == "ce":
        true = [math.log1p(math.exp(-own[i])) for i in sorted(set(of))]
        false = [math.log1p(math.exp(x)) for x in foil]
        expected = sum(true + false) / len(true + false)
    elif loss == "ce" or site == "text_text":
        expected = sum(cross_entropy(*row) for row in rows(own, foil, of)) / 2
    else:
        expected = sum(focal(*row, 1.5, 0.1) for row in rows(own, foil, of)) / 2
    output = objective(features(batch, model))
    assert float(output.loss) == pytest.approx(2.0 * 0.5 * expected, rel=1e-5)
    assert output.count == 3


def test_columns_equal_a_loop():
    batch, model = with_foils(captions(5)), StandIn()
    batch.image_ids[3] = batch.image_ids[1]  # two captions of one image
    batch.foils.pairs.text_keys[1] = batch.pairs.text_keys[4]  # a foil of image 0 is true of image 4
    seen = features(batch, model)
    true, false = seen.view(batch.pairs), seen.view(batch.foils.pairs)
    image, text, foil = true.image_embedding, true.text_embedding, false.text_embedding
    t, images = float(model.temperature), batch.image_ids.tolist()
    said = {(images[i], int(key)) for i, key in enumerate(batch.pairs.text_keys)}
    total = 0.0
    for i in range(5):
        allowed = [j for j in range(5) if j != i and images[i] != images[j]]
        texts = [float(image[i] @ text[j]) / t for j in allowed]
        foils = [
            float(image[i] @ foil[j]) / t
            for j, key in enumerate(batch.foils.pairs.text_keys.tolist())
            if (images[i], key) not in said
        ]
        own = float(image[i] @ text[i]) / t
        total += cross_entropy(own, texts + foils)
        total += cross_entropy(own, [float(text[i] @ image[j]) / t for j in allowed])
    assert float(TextFoil(sites={"itc_columns": 1.0})(features(batch, model)).loss) == pytest.approx(
        total / 10, rel=1e-5
    )


def test_adaptive_rank_equals_a_loop_and_its_margins_follow_the_gap():
    batch, model = with_foils(captions(5)), StandIn()
    own, foil, _, t, _, _ = scores(batch, model)
    objective = TextFoil(sites={"itc_row": 1.0}, loss="adaptive_rank")
    kinds, of = batch.foils.kinds.tolist(), batch.foils.of.tolist()
    margins = [0.0] * len(KINDS)
    for _ in range(2):
        losses = [max(0.0, margins[k] + foil[j] / t - own[of[j]] / t) for j, k in enumerate(kinds)]
        assert float(objective(features(batch, model)).loss) == pytest.approx(sum(losses) / 3, rel=1e-4, abs=1e-6)
        for k in set(kinds):
            gaps = [(own[of[j]] - foil[j]) / t for j, kind in enumerate(kinds) if kind == k]
            margins[k] = min(10.0, max(0.0, sum(gaps) / len(gaps)))
        assert objective.thresholds[0].tolist() == pytest.approx(margins, rel=1e-4, abs=1e-6)
    objective.eval()
    objective(features(with_foils(captions(5, seed=3)), model))
    assert objective.thresholds[0].tolist() == pytest.approx(margins, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("site", list(SITES))
def test_a_batch_without_foils_is_a_zero_in_the_graph(site):
    model, batch = StandIn(), with_foils(captions(4), of=(), kinds=())
    output = TextFoil(sites={site: 1.0})(features(batch, model))
    output.loss.backward()
    assert output.count == 0
    if site != "itc_columns":  # which is plain ITC then
        assert float(output.loss) == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.text_layer.weight.grad is not None


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_step_parts_true_texts_from_foils(preset):
    """One step of gradient descent raises s(image, text) - s(image, foil), and no preset pulls texts to foils."""
    torch.manual_seed(0)
    batch, model = with_foils(captions(5), of=(0, 1, 2, 3, 4), kinds=(0, 1, 0, 1, 0)), StandIn()
    objective = TextFoil.from_preset(preset)
    objective.attach(model)

    def gaps():
        own, foil, _, _, matched, foil_matched = scores(batch, model)
        margin = sum(own[i] - foil[j] for j, i in enumerate(batch.foils.of.tolist()))
        return margin, float((matched[:, 1] - matched[:, 0] - foil_matched[:, 1] + foil_matched[:, 0]).sum())

    if objective.loss == "adaptive_rank":
        objective(features(batch, model))  # margins are 0 before the first batch
    before = gaps()
    objective(features(batch, model)).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.02 * parameter.grad
    after = gaps()
    assert after[0] > before[0]
    if "itm" in objective.sites:
        assert after[1] > before[1]


def test_text_text_pushes_texts_from_foils():
    batch, model = with_foils(captions(5)), StandIn()
    before = sum(scores(batch, model)[2])
    TextFoil(sites={"text_text": 1.0})(features(batch, model)).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.02 * parameter.grad
    assert sum(scores(batch, model)[2]) < before


@pytest.mark.parametrize("site", list(SITES))
def test_order_does_not_matter(site):
    batch, model = with_foils(captions(5)), StandIn()
    loss = TextFoil(sites={site: 1.0}, loss="focal")(features(batch, model)).loss
    foils, order = batch.foils, torch.tensor([2, 0, 1])
    foils.of, foils.slot, foils.kinds = foils.of[order], 1 - foils.slot[order], foils.kinds[order]
    foils.pairs.image_index, foils.pairs.text_keys = foils.pairs.image_index[order], foils.pairs.text_keys[order]
    for name in ("input_ids", "attention_mask"):
        setattr(foils.pairs.text, name, getattr(foils.pairs.text, name)[order])
    assert float(TextFoil(sites={site: 1.0}, loss="focal")(features(batch, model)).loss) == pytest.approx(
        float(loss), rel=1e-5
    )


@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_places_without_a_foil_change_neither_value_nor_gradient(loss):
    """However many foils a text might have had, those that it has count: in other codes the rest are logits of 0."""
    results = []
    for width in (2, 7):
        batch, model = with_foils(captions(5)), StandIn()
        batch.foils.width = width
        out = TextFoil(sites={"itc_row": 1.0, "itm": 1.0, "text_text": 1.0}, loss=loss)(features(batch, model)).loss
        out.backward()
        results.append((out.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1])


def test_accuracy_is_told_by_kind():
    batch, model = with_foils(captions(5)), StandIn()
    own, foil, *_ = scores(batch, model)
    output = TextFoil(sites={"itc_row": 1.0}, kinds=["swap_so", "rel_replace", "order"])(features(batch, model))
    right = [own[i] > foil[j] for j, i in enumerate(batch.foils.of.tolist())]
    assert float(output.metrics["itc_row_accuracy"]) == pytest.approx(sum(right) / 3)
    assert float(output.metrics["itc_row_swap_so"]) == float(right[0])
    assert float(output.metrics["itc_row_rel_replace"]) == pytest.approx((right[1] + right[2]) / 2)
    assert [int(output.counts[f"itc_row_{k}"]) for k in ("swap_so", "rel_replace", "order")] == [1, 2, 0]


def test_an_exchange_is_told_by_what_it_is_of_a_graph():
    """`swap` of a triplet is one of two kinds, and is logged as that."""
    output = TextFoil(preset="negclip", sites={"itc_row": 1.0})(features(with_foils(captions(5)), StandIn()))
    assert {"itc_row_swap", "itc_row_swap_so", "itc_row_attr_swap"} <= set(output.metrics)
    assert int(output.counts["itc_row_swap_so"]) == 1


def test_images_and_true_texts_are_encoded_once():
    batch, model = with_foils(captions(5)), StandIn()
    objective = TextFoil(sites=dict.fromkeys(SITES, 1.0))
    objective(features(batch, model)).loss.backward()
    assert model.image_calls == [5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sites": {"itc": 1.0}}, "'itc' is no site of foils"),
        ({"loss": "mse"}, "loss must be ce, focal or adaptive_rank"),
        ({"kinds": ["swop"]}, "'swop' is no kind of foil.*swap"),
        ({"preset": "negclp"}, "no preset 'negclp'.*negclip"),
        ({"foils_per_text": 0}, "at least 1, got 0"),
        ({"smoothing": 1.0}, "smoothing in"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextFoil(**arguments)


def test_a_batch_that_was_made_without_foils_is_told():
    batch = captions(4)
    with pytest.raises(ValueError, match="needs a batch with foils"):
        TextFoil()(Features(StandIn(), batch, [batch.pairs]))


def test_a_host_without_matching_is_served_by_cosine():
    model = StandIn()
    model.provides = ("contrast",)
    objective = TextFoil()
    objective.attach(model)
    assert objective.served == ("itc_row",)
    with pytest.raises(ValueError, match="has no matching"):
        TextFoil(sites={"itm": 1.0}).attach(model)
