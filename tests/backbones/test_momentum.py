"""The momentum teacher: its copy, its queue, its ramp."""

import copy

import pytest
import torch
import torch.nn.functional as F

from relpretrain.backbones import ALBEF, momentum
from relpretrain.backbones.momentum import EmbeddingQueue


def student(**numbers) -> ALBEF:
    return ALBEF("tiny", image_size=32, vocab_size=50, **({"momentum": 0.9, "queue_size": 7} | numbers))


def rows(start: int, n: int) -> tuple[torch.Tensor, ...]:
    ids = torch.arange(start, start + n)
    return ids[:, None].float().expand(n, 3), -ids[:, None].float().expand(n, 3), ids, 1000 + ids


def test_the_copy_starts_equal_and_has_no_gradients():
    model = student()
    own, copied = dict(model.named_parameters()), dict(model.teacher.model.named_parameters())
    assert set(own) - {n for n in own if n.startswith("teacher.")} == set(copied) | {
        "itm_head.weight",
        "itm_head.bias",
        "scale.value",
    }
    for name, value in copied.items():
        assert torch.equal(value, own[name])
        assert not value.requires_grad
        assert value.data_ptr() != own[name].data_ptr()
    assert ALBEF("tiny", image_size=32, vocab_size=50).teacher is None


def test_update_is_an_exponential_moving_average():
    model = student()
    before = copy.deepcopy(model.teacher.model)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))
    model.teacher.update(model)
    own = dict(model.named_parameters())
    for (name, now), then in zip(model.teacher.model.named_parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * then + 0.1 * own[name])
        assert not now.requires_grad


def test_dropout_of_the_copy_follows_the_mode():
    model = student(dropout=0.5)
    assert model.train().teacher.model.text.drop.training
    assert not model.eval().teacher.model.text.drop.training


@pytest.mark.parametrize("sizes", [[3, 3, 3], [7, 1], [10, 2], [5, 0, 4], [16, 3]])
def test_the_queue_keeps_the_latest_whatever_the_batch_size(sizes):
    queue, start = EmbeddingQueue(3, 7), 0
    for n in sizes:
        queue.put(*rows(start, n))
        start += n
    expected = list(range(max(start - 7, 0), start))
    assert sorted(i for i in queue.image_ids.tolist() if i >= 0) == expected
    assert int(queue.pointer) == start % 7
    for column, i in enumerate(queue.image_ids.tolist()):
        if i >= 0:
            assert i % 7 == column
            assert queue.image[:, column].tolist() == [i] * 3
            assert queue.text[:, column].tolist() == [-i] * 3
            assert queue.text_ids[column] == 1000 + i


def test_the_queue_starts_with_unit_vectors_of_unknown_identity():
    queue = student().teacher.queue
    torch.testing.assert_close(queue.image.norm(dim=0), torch.ones(7))
    assert queue.image_ids.eq(-1).all()
    assert queue.text_ids.eq(-1).all()
    assert student(queue_size=0).teacher.queue is None


def test_all_ranks_hold_the_rows_of_all(monkeypatch):
    mine, others = rows(0, 2), rows(2, 3)
    other = {id(tensor): theirs for tensor, theirs in zip(mine, others, strict=True)}
    monkeypatch.setattr(momentum, "gather_sizes", lambda n: [n, 3])
    monkeypatch.setattr(momentum, "gather", lambda tensor, sizes: torch.cat([tensor, other[id(tensor)]]))
    queue = EmbeddingQueue(3, 7)
    queue.put(*mine)
    assert [*queue.image_ids.tolist(), int(queue.pointer)] == [0, 1, 2, 3, 4, -1, -1, 5]
    assert queue.image[0, :5].tolist() == [0, 1, 2, 3, 4]


def test_alpha_rises_linearly_to_its_share():
    model = student(alpha=0.4, alpha_steps=4)
    seen = []
    for _ in range(6):
        model.teacher.update(model)
        seen.append(model.teacher.alpha)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])
    assert student(alpha=0.4).teacher.alpha == 0.4


def test_a_restored_teacher_goes_on_where_it_was():
    model = student(alpha_steps=10)
    for start in range(3):
        model.teacher.update(model)
        embeddings = F.normalize(torch.randn(4, 32), dim=1)
        model.teacher.enqueue(embeddings, embeddings, torch.arange(4) + start, torch.arange(4))
    again = student(alpha_steps=10)
    again.load_state_dict(model.state_dict())
    assert again.teacher.alpha == model.teacher.alpha > 0
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"momentum=1\.5"):
        student(momentum=1.5)
    with pytest.raises(ValueError, match="queue_size=-1"):
        student(queue_size=-1)
