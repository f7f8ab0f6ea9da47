"""Texts against their foils."""

import pytest
import torch

from relpretrain.explain import Contrast, TextMap, contrast_map, text_maps
from relpretrain.explain.maps.watching import fusion_layer, watched

TRUE, FOIL = "red square left of blue square", "red square right of blue square"


def test_evidence_for_the_text_less_evidence_for_the_foil(loaded, picture):
    found = contrast_map(loaded, picture, TRUE, FOIL)
    true, foil = text_maps(loaded, picture, [TRUE, FOIL])
    assert found.margin == pytest.approx(true.score - foil.score)
    assert found.places == ((3,), (3,))
    torch.testing.assert_close(found.difference, true.of("left") - foil.of("right"))
    assert (found.difference.min() < 0) or (found.difference.max() > 0)
    back = contrast_map(loaded, picture, FOIL, TRUE)
    assert back.margin == pytest.approx(-found.margin)
    torch.testing.assert_close(back.difference, -found.difference)


def test_through_the_texts_attention_alone_the_foil_would_not_count(loaded, picture):
    """Why the map is not the margin's gradient at the text's attention: that is the text's own map."""
    model = loaded.backbone
    pixels, words = loaded.preprocess.images([picture]), loaded.preprocess.texts([TRUE])
    other = loaded.preprocess.texts([FOIL])
    with watched(model, fusion_layer(model)) as seen:
        features = model.encode_image(pixels)

        def logit(text):
            states = model.encode_text(text.input_ids, text.attention_mask)
            fused = model.fuse(states, text.attention_mask, features.tokens, features.mask)
            return model.match_logits(fused)[0, 1]

        alone = seen.evidence(logit(words) - logit(other))
    (own,) = text_maps(loaded, picture, [TRUE])
    torch.testing.assert_close(alone[0, :, 1:].reshape(own.maps.shape), own.maps, rtol=1e-4, atol=1e-7)


def test_a_planted_model_prefers_what_is_there_for_where_it_is(planted, picture):
    found = contrast_map(planted, picture, "red square", "green square")
    assert found.margin > 0
    assert found.difference.argmax() == 0
    swapped = contrast_map(planted, picture, "green square", "blue square")
    assert swapped.margin < 0
    assert swapped.difference.argmin() == 15


def test_the_same_text_is_no_foil(loaded, picture):
    with pytest.raises(ValueError, match="sees the same tokens of the text 'dog' and of its foil 'DOG'"):
        contrast_map(loaded, picture, "dog", "DOG")


def test_what_the_model_prefers_goes_by_both_logits():
    """Benchmarks decide by the probability, in which the logit of the other class counts; the map is of one logit."""
    true, foil = (
        TextMap("t", None, None, score, torch.tensor([other, score]).softmax(0)[1].item(), None)
        for score, other in ((1.0, 1.5), (0.5, -2.0))
    )
    contrast = Contrast(true, foil)
    assert contrast.margin > 0 > contrast.preference
