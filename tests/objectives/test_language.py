import pytest
import torch

from relpretrain.features import Features
from relpretrain.objectives import MLM
from relpretrain.objectives.language import word_losses
from tests.objectives.standin import WORDS, StandIn, captions


def test_equals_a_loop_over_masked_words():
    model, batch = StandIn(), captions(4)
    view = Features(model, batch, [batch.pairs]).view(batch.pairs)
    text, total, count = batch.pairs.text, 0.0, 0
    for row in range(4):
        one = slice(row, row + 1)
        hidden = model.encode_text(text.masked_input_ids[one], text.attention_mask[one])
        fused = model.fuse(hidden, text.attention_mask[one], view.image[0][one], view.image[1][one])
        for position, label in enumerate(text.labels[row].tolist()):
            if label != -100:
                total -= float(model.word_logits(fused[0, position]).log_softmax(-1)[label])
                count += 1
    assert float(MLM().term(view).loss) == pytest.approx(total / count, rel=1e-5)


def test_the_vocabulary_head_runs_at_masked_positions_only():
    model, batch = StandIn(), captions(4)
    rows = []
    head = model.word_logits
    model.word_logits = lambda fused: rows.append(len(fused)) or head(fused)
    MLM()(Features(model, batch, [batch.pairs]))
    assert rows == [4]


def test_no_masked_word_is_a_zero_with_gradient_and_no_count():
    model, batch = StandIn(), captions(3)
    batch.pairs.text.labels[:] = -100
    output = MLM()(Features(model, batch, [batch.pairs]))
    assert output.count == 0
    assert float(output.loss) == 0
    output.loss.backward()
    assert model.mlm_head.weight.grad.abs().sum() == 0


def test_unmasked_texts_are_refused():
    batch = captions(3)
    batch.pairs.text.labels = None
    with pytest.raises(ValueError, match="masked texts"):
        MLM()(Features(StandIn(), batch, [batch.pairs]))


def test_soft_targets_mix_by_alpha():
    logits, labels = torch.randn(3, WORDS), torch.tensor([1, 4, 2])
    soft = torch.randn(3, WORDS).softmax(1)
    hard, full = word_losses(logits, labels), word_losses(logits, labels, soft, 1.0)
    assert torch.allclose(word_losses(logits, labels, soft, 0.4), 0.6 * hard + 0.4 * full)
    assert torch.allclose(full, -(soft * logits.log_softmax(1)).sum(1))
