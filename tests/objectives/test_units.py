"""Units and several positives: each equation against a loop, and what must not change anything."""

import dataclasses
import math

import pytest
import torch

from relpretrain.features import Features
from relpretrain.objectives import ITC, MultiPositive, RelationUnits
from relpretrain.types import Foils, Units
from tests.objectives.standin import StandIn, captions, with_units


def features(batch, model=None):
    return Features(model or StandIn(), batch, [batch.units.pairs, batch.units.foils.pairs])


def embedded(batch, model):
    """Embeddings of the units' images, the units and their foils; identities of images and texts; the temperature."""
    seen = features(batch, model)
    true, false = seen.view(batch.units.pairs), seen.view(batch.units.foils.pairs)
    images, keys = true.image_ids.tolist(), batch.units.pairs.text_keys.tolist()
    return true.image_embedding, true.text_embedding, false.text_embedding, images, keys, float(model.temperature)


def cross_entropy(own, others):
    return math.log(sum(math.exp(x - own) for x in [own, *others]))


def naive_units(batch, model):
    image, text, foil, images, keys, t = embedded(batch, model)
    slot, of = batch.units.slot.tolist(), batch.units.foils.of.tolist()
    said = {owner: {k for k, image in zip(keys, images, strict=True) if image == owner} for owner in images}
    total = 0.0
    for i in range(len(slot)):
        others = [j for j in range(len(slot)) if slot[j] == slot[i] and images[j] != images[i]]
        own = float(image[i] @ text[i]) / t
        texts = [float(image[i] @ text[j]) / t for j in others if keys[j] not in said[images[i]]]
        foils = [float(image[i] @ foil[f]) / t for f, row in enumerate(of) if row == i]
        rivals = [float(text[i] @ image[j]) / t for j in others if keys[i] not in said[images[j]]]
        total += cross_entropy(own, texts + foils) + cross_entropy(own, rivals)
    return total / (2 * len(slot))


def naive_positives(batch, model, allowed=lambda slot: True):
    """MosaiCLIP's equation, one image and one text at a time."""
    image, text, foil, images, keys, t = embedded(batch, model)
    slot, of = batch.units.slot.tolist(), batch.units.foils.of.tolist()
    rows = [i for i in range(len(slot)) if allowed(slot[i])]
    by_image, by_text = [], []
    for owner in dict.fromkeys(images[i] for i in rows):
        mine = [i for i in rows if images[i] == owner]
        said = {keys[i] for i in mine}
        others = [j for j in rows if images[j] != owner and keys[j] not in said]
        u = image[mine[0]]
        sums = [float(u @ text[j]) / t for j in (*mine, *others)]
        sums += [float(u @ foil[f]) / t for f, row in enumerate(of) if row in rows]
        total = math.log(sum(map(math.exp, sums)))
        by_image.append(sum(total - float(u @ text[k]) / t for k in mine) / len(mine))
        for k in mine:
            rivals = dict.fromkeys(images[j] for j in rows if images[j] != owner)
            rivals = [r for r in rivals if all(keys[k] != keys[j] for j in rows if images[j] == r)]
            firsts = [next(j for j in rows if images[j] == r) for r in rivals]
            by_text.append(cross_entropy(float(u @ text[k]) / t, [float(image[j] @ text[k]) / t for j in firsts]))
    return (sum(by_image) / len(by_image) + sum(by_text) / len(by_text)) / 2


def collision(batch, row=2):
    """A unit of image 1 that is true of image 0 as well."""
    batch.units.pairs.text_keys[row] = batch.units.pairs.text_keys[0]
    return batch


def elsewhere(batch):
    """The same, at another place among the image's units: each is still no negative of the other's image."""
    assert batch.units.slot[0] != batch.units.slot[3]
    return collision(batch, row=3)


CHANGES = {"as it is": lambda b: b, "one text of two images": collision, "at another place": elsewhere}
changed = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@changed
def test_units_equal_a_loop(change):
    batch, model = change(with_units(captions(4))), StandIn()
    output = RelationUnits(itm=0.0, weight=0.5)(features(batch, model))
    assert float(output.loss) == pytest.approx(0.5 * naive_units(batch, model), rel=1e-5)
    assert output.count == 6


@changed
def test_several_positives_equal_a_loop(change):
    batch, model = change(with_units(captions(4))), StandIn()
    output = MultiPositive()(features(batch, model))
    assert float(output.loss) == pytest.approx(naive_positives(batch, model), rel=1e-5)


def test_matching_of_units_equals_a_loop():
    batch, model = with_units(captions(4)), StandIn()
    seen = features(batch, model)
    true, false = (seen.view(p).matched for p in (batch.units.pairs, batch.units.foils.pairs))
    losses = [math.log1p(math.exp(a - b)) for a, b in true.tolist()]
    losses += [math.log1p(math.exp(b - a)) for a, b in false.tolist()]
    output = RelationUnits(itc=0.0, weight=1.0)(features(batch, model))
    assert float(output.loss) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_one_positive_and_no_foil_is_plain_itc():
    batch, model = with_units(captions(5), (1,) * 5, ()), StandIn()
    plain = dataclasses.replace(batch, pairs=batch.units.pairs)
    expected = ITC()(Features(model, plain, [plain.pairs])).loss
    assert float(MultiPositive()(features(batch, model)).loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(RelationUnits(itm=0.0, weight=1.0)(features(batch, model)).loss) == pytest.approx(float(expected))


def test_a_curriculum_begins_with_one_text_an_image():
    batch, model = with_units(captions(4)), StandIn()
    objective = MultiPositive(curriculum_steps=10)
    first = objective(features(dataclasses.replace(batch, step=9), model)).loss
    assert float(first) == pytest.approx(naive_positives(batch, model, lambda slot: slot == 0), rel=1e-5)
    later = objective(features(dataclasses.replace(batch, step=10), model)).loss
    assert float(later) == pytest.approx(naive_positives(batch, model), rel=1e-5)


def reordered(batch, order):
    """The same units in another order, each with its slot."""
    units, back = batch.units, torch.argsort(order)
    text = dataclasses.replace(
        units.pairs.text,
        input_ids=units.pairs.text.input_ids[order],
        attention_mask=units.pairs.text.attention_mask[order],
    )
    pairs = dataclasses.replace(
        units.pairs, text=text, image_index=units.pairs.image_index[order], text_keys=units.pairs.text_keys[order]
    )
    foils = Foils(units.foils.pairs, back[units.foils.of], units.foils.slot, units.foils.kinds)
    return dataclasses.replace(batch, units=Units(pairs, units.slot[order], foils))


@pytest.mark.parametrize("objective", [RelationUnits(), MultiPositive()], ids=["units", "positives"])
def test_the_order_of_images_does_not_matter(objective):
    batch, model = with_units(captions(4)), StandIn()
    other = reordered(batch, torch.tensor([5, 2, 3, 4, 0, 1]))
    loss = objective(features(batch, model)).loss
    assert float(objective(features(other, model)).loss) == pytest.approx(float(loss), rel=1e-5)


def test_the_order_of_an_images_texts_does_not_matter():
    batch, model = with_units(captions(4)), StandIn()
    loss = MultiPositive()(features(batch, model)).loss
    other = reordered(batch, torch.tensor([1, 0, 4, 3, 2, 5]))
    other.units.slot = batch.units.slot
    assert float(MultiPositive()(features(other, model)).loss) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("objective", [RelationUnits(), MultiPositive()], ids=["units", "positives"])
@pytest.mark.parametrize("per_image", [(0, 0, 0, 0), (1, 1, 0, 0)])
def test_without_foils_or_units_the_loss_is_finite_and_in_the_graph(objective, per_image):
    batch, model = with_units(captions(4), per_image, ()), StandIn()
    output = objective(features(batch, model))
    output.loss.backward()
    assert output.count == sum(per_image)
    assert sum(per_image) or float(output.loss) == 0.0
    assert model.text_layer.weight.grad is not None
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("objective", [RelationUnits(), MultiPositive()], ids=["units", "positives"])
def test_a_step_parts_units_from_their_foils(objective):
    batch, model = with_units(captions(4), foils_of=(0, 1, 2, 3, 4, 5)), StandIn()

    def gap():
        image, text, foil, *_ = embedded(batch, model)
        return float((image * (text - foil)).sum())

    before = gap()
    objective(features(batch, model)).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad
    assert gap() > before


def test_images_are_encoded_once():
    batch, model = with_units(captions(4)), StandIn()
    seen = features(batch, model)
    (RelationUnits()(seen).loss + MultiPositive()(seen).loss).backward()
    assert model.image_calls == [4]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="units_per_image must be at least 1, got 0"):
        RelationUnits(units_per_image=0)
    with pytest.raises(ValueError, match="curriculum_steps not negative"):
        MultiPositive(curriculum_steps=-1)
    with pytest.raises(ValueError, match="'swop_so' is no kind of foil"):
        MultiPositive(kinds=["swop_so"])
    batch = captions(4)
    with pytest.raises(ValueError, match="RelationUnits needs a batch with units"):
        RelationUnits()(Features(StandIn(), batch, []))


def test_a_host_without_matching_is_served_by_contrast():
    model = StandIn()
    model.provides = ("contrast",)
    objective = RelationUnits()
    objective.attach(model)
    assert objective.served == ("itc",)
