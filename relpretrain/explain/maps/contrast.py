"""What made a model prefer a text to its foil: what it found for the one, less what it found for the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from relpretrain.explain.maps.spans import differing
from relpretrain.explain.maps.texts import TextMap, text_maps
from relpretrain.explain.maps.watching import Model


@dataclass(frozen=True)
class Contrast:
    """A text and its foil on one image.

    Args:
        true: Where the model looks for the text.
        foil: Where it looks for the foil.
    """

    true: TextMap
    foil: TextMap

    @property
    def margin(self) -> float:
        """Matching logit of the text less that of the foil: what the map explains, see `preference` for the answer."""
        return self.true.score - self.foil.score

    @property
    def preference(self) -> float:
        """Probability that the text matches less that of the foil: above 0 the model prefers the text.

        Both classes' logits count here, those of "match" alone in `margin`.
        """
        return self.true.probability - self.foil.probability

    @property
    def places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens at which the two differ, in either."""
        return differing(self.true.tokens.ids, self.foil.tokens.ids)

    @property
    def difference(self) -> Tensor:
        """Evidence for the text less evidence for the foil, (rows, columns), each the mean over the differing tokens.

        Above 0 a place speaks for the text, below 0 for the foil.
        """
        own, other = self.places
        return self.true.over(own) - self.foil.over(other)


def contrast_map(model: Model, image: Image.Image, text: str, foil: str, layer: int | None = None) -> Contrast:
    """Grad-CAM of the margin, logit(text) - logit(foil), through the attention of both texts.

    The foil's logit does not depend on the text's attention: through that alone, the margin gives the map of the text
    without its foil. So the margin's loss through the foil's attention is taken off.

    Args:
        model: What `relpretrain.load` returned.
        image: The image.
        text: What is true of it.
        foil: What is not.
        layer: Number of the layer, see `watching.fusion_layer`.

    Raises:
        ValueError: If the two are the same to the model, or as `text_maps` does.
    """
    return contrast_maps(model, image, [text], [foil], layer)[0]


def contrast_maps(
    model: Model, image: Image.Image, texts: Sequence[str], foils: Sequence[str], layer: int | None = None
) -> list[Contrast]:
    """`contrast_map` of several texts, each with its foil, in one pass.

    Raises:
        ValueError: If there are not as many foils as texts, or as `contrast_map` does.
    """
    if len(texts) != len(foils):
        raise ValueError(f"Each text needs its foil: got {len(texts)} and {len(foils)}.")
    for text, foil in zip(texts, foils, strict=True):
        if not differs(model, text, foil):
            raise ValueError(f"The model sees the same tokens of the text {text!r} and of its foil {foil!r}.")
    found = text_maps(model, image, [*texts, *foils], layer)
    return [Contrast(*pair) for pair in zip(found[: len(texts)], found[len(texts) :], strict=True)]


def differs(model: Model, text: str, foil: str) -> bool:
    """Whether two texts are not the same to the model."""
    encoder = model.preprocess.encoder
    return encoder.caption(text).ids != encoder.caption(foil).ids
