"""What is asked of every host: the same proofs, whatever the model."""

import copy
import dataclasses
import io

import pytest
import torch

from relpretrain import add_relation_objectives
from relpretrain.adapters import relation_parameters, remove_relation_objectives
from relpretrain.features import Features, patch_mask
from relpretrain.objectives import MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import GraphBatch, Pairs, Regions, TextBatch

SIDE = 32  # pixels; patches of 8
BOXES = torch.tensor(
    [[0.2, 0.2, 0.3, 0.3], [0.7, 0.6, 0.5, 0.7], [0.5, 0.5, 0.9, 0.4], [0.3, 0.8, 0.4, 0.3]] * 2
)  # (entities, 4)


def padded(rows, pad, length=None, mask_id=None):
    """Texts as a TextBatch; with `mask_id`, the second token of each is masked."""
    longest = max(map(len, rows)) if length is None else length
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    if mask_id is None:
        return TextBatch(ids, mask)
    masked, labels = ids.clone(), torch.full_like(ids, -100)
    masked[:, 1], labels[:, 1] = mask_id, ids[:, 1]
    return TextBatch(ids, mask, masked, labels)


def images(n=4, seed=0):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def graph_batch(texts, seed=0):
    """Four images with a verbalised graph, two entities and one triplet each; `texts(n, seed)` makes a TextBatch."""
    entities = Pairs(texts(8, seed + 1), torch.arange(4).repeat_interleave(2), torch.arange(8) + 100, BOXES)
    return GraphBatch(
        images=images(4, seed),
        image_ids=torch.arange(4),
        pairs=Pairs(texts(4, seed), torch.arange(4), torch.arange(4)),
        entities=entities,
        subjects=torch.tensor([0, 2, 4, 6]),
        objects=torch.tensor([1, 3, 5, 7]),
        relations=("on", "under", "on", "in"),
        step=seed,
    )


def half(batch, rank):
    """Two of the four images with what belongs to them."""

    def part(pairs, keep):
        text = dataclasses.replace(
            pairs.text, input_ids=pairs.text.input_ids[keep], attention_mask=pairs.text.attention_mask[keep]
        )
        boxes = None if pairs.boxes is None else pairs.boxes[keep]
        return Pairs(text, pairs.image_index[keep] - 2 * rank, pairs.text_keys[keep], boxes)

    two, four = slice(2 * rank, 2 * rank + 2), slice(4 * rank, 4 * rank + 4)
    return dataclasses.replace(
        batch,
        images=batch.images[two],
        image_ids=batch.image_ids[two],
        pairs=part(batch.pairs, two),
        entities=part(batch.entities, four),
        subjects=torch.tensor([0, 2]),
        objects=torch.tensor([1, 3]),
        relations=batch.relations[two],
    )


def attach(host, **options):
    return add_relation_objectives(host, [VSG(), MRC(RelationVocabulary(["on", "under", "in"]))], **options)


def total(host, batch):
    return sum(host.relation_losses(batch).values())


def adapter_of(host):
    """The adapter that an attached host is seen by."""
    return host.relation_attachment.found.backbone(host)


def gradients_reach(host, batch, groups):
    """Every named group of parameters, by their first letters, gets a gradient from VSG and from MRC."""
    losses = attach(host).relation_losses(batch)
    vsg = sum(value for name, value in losses.items() if name.startswith("vsg"))
    for name, loss in (("vsg", vsg), ("mrc", losses["mrc"])):
        host.zero_grad()
        loss.backward(retain_graph=True)
        for group, prefixes in groups[name].items():
            grads = [p.grad for n, p in host.named_parameters() if n.startswith(prefixes) and p.grad is not None]
            assert sum(float(g.abs().sum()) for g in grads) > 0, f"{name} does not reach the {group}"
    assert all(p.grad.abs().sum() > 0 for p in relation_parameters(host))


def host_is_untouched(host, outputs, batch):
    """The host's own outputs and keys are the same, to the bit, before, with and after relation objectives."""

    def seen():
        torch.manual_seed(0)
        return [tensor.detach().clone() for tensor in outputs(host)]

    before, state = seen(), {key: value.clone() for key, value in host.state_dict().items()}
    buffers = {key: value for key, value in host.state_dict().items() if key not in dict(host.named_parameters())}
    attach(host)
    total(host, batch).backward()
    with torch.no_grad():
        for key, value in host.state_dict().items():
            if key in buffers:
                value.copy_(state[key])  # what the host's own forward moves, such as a queue
    during = seen()
    assert len(before) == len(during) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))
    assert [key for key in host.state_dict() if not key.startswith("relation_")] == list(state)
    assert any(key.startswith("relation_objectives.") for key in host.state_dict())
    for parameter in host.parameters():
        parameter.grad = None
    remove_relation_objectives(host)
    assert list(host.state_dict()) == list(state)
    assert not [name for name in vars(host) if "relation" in name]
    assert "forward" not in vars(host)
    with torch.no_grad():
        for key, value in host.state_dict().items():
            if key in buffers:
                value.copy_(state[key])
    assert all(torch.equal(a, b) for a, b in zip(before, seen(), strict=True))


def works_under_autocast(host, batch):
    exact = attach(host).relation_losses(batch)
    with torch.autocast("cpu", torch.bfloat16):
        losses = host.relation_losses(batch)
        sum(losses.values()).backward()
    for name, value in losses.items():
        torch.testing.assert_close(value.float(), exact[name], rtol=0.1, atol=0.1, msg=name)
    assert all(p.grad.isfinite().all() for p in host.parameters() if p.grad is not None)


def gradients_accumulate(host, one, two):
    """Two backward passes add up to that of the sum."""
    attach(host)
    (total(host, one) + total(host, two)).backward()
    together = {n: p.grad.clone() for n, p in host.named_parameters() if p.grad is not None}
    host.zero_grad()
    total(host, one).backward()
    total(host, two).backward()
    for name, parameter in host.named_parameters():
        if name in together:
            torch.testing.assert_close(parameter.grad, together[name], rtol=1e-4, atol=1e-5)


def copies_and_files_hold_it(host, make, batch):
    """A deep copy computes with its own parameters; a state dict through a file gives the same losses."""
    attach(host)
    expected = host.relation_losses(batch)
    twin = copy.deepcopy(host)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert float(twin.relation_losses(batch)["mrc"]) != float(expected["mrc"])
    again = host.relation_losses(batch)
    assert all(torch.equal(expected[name], again[name]) for name in expected)
    file = io.BytesIO()
    torch.save(host.state_dict(), file)
    file.seek(0)
    other = attach(make(seed=7)).eval()
    assert float(total(other, batch)) != float(total(host, batch))
    other.load_state_dict(torch.load(file, weights_only=True))
    loaded = other.relation_losses(batch)
    assert all(torch.equal(expected[name], loaded[name]) for name in expected)


def losses_fall(host, batch, steps=15, lr=3e-3, to=0.8):
    """The relation losses on one batch fall to a share of what they were; returns first and last by name."""
    attach(host)
    optimizer = torch.optim.AdamW((p for p in host.parameters() if p.requires_grad), lr=lr)
    first = {name: value.item() for name, value in host.relation_losses(batch).items()}
    for _ in range(steps):
        optimizer.zero_grad()
        total(host, batch).backward()
        optimizer.step()
    last = {name: value.item() for name, value in host.relation_losses(batch).items()}
    assert sum(last.values()) < to * sum(first.values()), (first, last)
    assert last["mrc"] < to * first["mrc"], (first, last)
    return first, last


def regions_see_only_their_box(host, batch):
    """What lies in no patch of a region changes nothing of it but its context; a region of all is the whole image."""
    attach(host)
    backbone = adapter_of(host)
    grid = backbone.patch_grid
    whole_box = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    boxes = torch.cat([whole_box, BOXES[:2]])
    features = backbone.encode_image(batch.images, Regions(torch.tensor([1, 1, 1]), patch_mask(boxes, grid)))
    plain = backbone.encode_image(batch.images)
    torch.testing.assert_close(features.tokens, plain.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.region_tokens[0], plain.tokens[1], rtol=1e-5, atol=1e-5)
    assert (features.region_tokens[1, 0] - features.region_tokens[2, 0]).abs().max() > 1e-3
    return features


def features_of(host, batch):
    """`Features` of a batch's own texts under an attached host."""
    return Features(adapter_of(host), batch, [])


def fusion_ignores_what_is_hidden(host, batch):
    """Text tokens attend to the visible image tokens alone, those of a region to its box."""
    attach(host)
    backbone = adapter_of(host)
    text, mask = batch.pairs.text.input_ids[:1], batch.pairs.text.attention_mask[:1]
    words = backbone.encode_text(text, mask)
    tokens = backbone.encode_image(batch.images[:1]).tokens
    visible = torch.arange(tokens.shape[1])[None] < 6
    other = torch.where(visible[..., None], tokens, tokens + 1)
    fused = [backbone.fuse(words, mask, image, visible) for image in (tokens, other)]
    torch.testing.assert_close(*fused)
    assert not torch.allclose(fused[0], backbone.fuse(words, mask, tokens, torch.ones_like(visible)), atol=1e-4)


def serves_bfloat16(make, batch):
    """A host in bfloat16 has losses in fp32, near those of fp32, and finite gradients; one in float16 is refused."""
    exact = attach(make()).relation_losses(batch)
    host = attach(make().bfloat16())
    losses = host.relation_losses(batch)
    for name, value in losses.items():
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.1, msg=name)
    sum(losses.values()).backward()
    grads = [p.grad for p in host.parameters() if p.grad is not None]
    assert grads
    assert all(grad.dtype == torch.bfloat16 and grad.isfinite().all() for grad in grads)
    assert all(p.dtype == torch.bfloat16 for p in relation_parameters(host))
    host = make().half()
    with pytest.raises(ValueError, match=r"parameters in float16, which cannot be trained"):
        attach(host)
    assert not hasattr(host, "relation_objectives")
    host = attach(make()).half()
    with pytest.raises(ValueError, match=r"parameters in float16"):
        host.relation_losses(batch)
