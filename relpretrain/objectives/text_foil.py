"""True texts against their foils: one objective for what NegCLIP, TSVLC, CE-CLIP, FSC-CLIP and SGVL do with them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import gather, mean_over_ranks, rank, sum_over_ranks
from relpretrain.errors import suggest
from relpretrain.features import Features, View, full_precision
from relpretrain.objectives import foils as equations
from relpretrain.objectives.base import Objective, served
from relpretrain.scene_graph.foils import GRAPH_KINDS, KINDS, check_kinds, graph_kinds
from relpretrain.types import Backbone, Batch, CaptionBatch, Foils, GraphBatch, ObjectiveOutput, Pairs

Loss = Literal["ce", "focal", "adaptive_rank"]
SITES = {"itc_columns": "contrast", "itc_row": "contrast", "itm": "matching", "text_text": "contrast"}
"""Where foils may act, and the part of a backbone (`relpretrain.types.PARTS`) that is needed there."""

PRESETS: dict[str, dict[str, Any]] = {
    "negclip": {"sites": {"itc_columns": 1.0}, "kinds": ["swap"]},
    "tsvlc": {
        "sites": {"itc_columns": 1.0, "itc_row": 1.0},
        "kinds": ["attr_replace", "rel_replace", "subj_replace", "obj_replace"],
    },
    "ce_clip": {
        "sites": {"itc_columns": 1.0, "itc_row": 0.2, "text_text": 0.3},
        "loss": "adaptive_rank",
        "kinds": ["swap_so", "attr_replace", "rel_replace", "obj_replace"],
        "foils_per_text": 4,
    },
    "fsc_clip": {
        "sites": {"itc_row": 0.5},
        "loss": "focal",
        "kinds": ["swap", "rel_replace", "order"],
        "foils_per_text": 3,
    },
    "sgvl": {
        "sites": {"itc_row": 0.5, "itm": 0.5},
        "kinds": ["swap_so", "rel_replace", "attr_swap", "attr_replace"],
        "scale": 1.0,
    },
}
"""Settings of published methods, as `docs/objectives.md` explains; weights are beside an ITC of weight 1 unless `sites`
names `itc_columns`, which takes the place of ITC."""


_DEFAULTS: dict[str, Any] = {
    "sites": {"itc_row": 1.0, "itm": 1.0},
    "loss": "ce",
    "kinds": GRAPH_KINDS,
    "foils_per_text": 1,
    "scale": None,
}


class TextFoil(Objective):
    """Tell true texts from foils: texts that differ in one thing and are false of the image.

    The foils of a batch are made by its stream, from captions or graphs (`scene_graph.foils`). Where they act:

    - `itc_columns`: they are further texts for every image in ITC (NegCLIP); in the place of ITC.
    - `itc_row`: each true text competes with its own foils for its image, by cosine (TSVLC, FSC-CLIP, CE-CLIP).
    - `itm`: the same by matching. With `loss` "ce" it is the mean of the cross-entropy over true pairs and foils apart
      from ITM's own (SGVL), so that a probability of 0.5 keeps its meaning.
    - `text_text`: a true text's image is closer to it than its foils are (CE-CLIP's intra-modal term, corrected: the
      official code came to pull each text towards a foil).

    A text without foils takes no part; a batch without any gives a zero of count 0.

    Args:
        preset: A published method whose settings hold where an argument is None: one of `PRESETS`.
        sites: Weight of each of these sites; {itc_row: 1, itm: 1} without a preset.
        loss: Of `itc_row` and `itm`: "ce", the default; "focal" with smoothed labels; "adaptive_rank", whose margins
            grow with the gaps between true texts and foils.
        kinds: What foils may change, of `scene_graph.foils.KINDS`; what streams make unless they say otherwise. All
            that triplets have without a preset.
        foils_per_text: Most foils of a text, each of another kind, likewise; 1 without a preset.
        scale: Factor of the cosines in `itc_row` and `text_text`; None for the model's 1 / temperature.
        gamma: Exponent of the focal loss.
        smoothing: Share of its target that a text and its foils divide among themselves.
        weight: Factor of the sum.

    Raises:
        ValueError: If a preset, site, loss or kind is none, or a number is out of range.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (CaptionBatch, GraphBatch)
    thresholds: Tensor

    @recorded
    def __init__(
        self,
        preset: str | None = None,
        sites: dict[str, float] | None = None,
        loss: Loss | None = None,
        kinds: list[str] | None = None,
        foils_per_text: int | None = None,
        scale: float | None = None,
        gamma: float = 2.0,
        smoothing: float = 0.02,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        if preset is not None and preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise ValueError(f"there is no preset {preset!r}; choose from {known}{suggest(preset, PRESETS)}")
        given = {"sites": sites, "loss": loss, "kinds": kinds, "foils_per_text": foils_per_text, "scale": scale}
        settings = _DEFAULTS | PRESETS.get(preset or "", {}) | {k: v for k, v in given.items() if v is not None}
        loss, foils_per_text = settings["loss"], settings["foils_per_text"]
        self.sites = {name: float(value) for name, value in settings["sites"].items()}
        for name in self.sites:
            if name not in SITES:
                raise ValueError(f"{name!r} is no site of foils; choose from {', '.join(SITES)}{suggest(name, SITES)}")
        if loss not in ("ce", "focal", "adaptive_rank"):
            raise ValueError(f"loss must be ce, focal or adaptive_rank, got {loss!r}")
        if foils_per_text < 1:
            raise ValueError(f"foils_per_text must be at least 1, got {foils_per_text}")
        if gamma < 0 or not 0 <= smoothing < 1:
            raise ValueError(f"gamma must not be negative and smoothing in [0, 1), got {gamma} and {smoothing}")
        self.loss = loss
        self.foil_kinds = check_kinds(settings["kinds"])
        self._told_kinds = dict.fromkeys([*self.foil_kinds, *graph_kinds(self.foil_kinds)])
        self.foils_per_text = foils_per_text
        self.scale: float | None = settings["scale"]
        self.gamma, self.smoothing = gamma, smoothing
        self.served = tuple(self.sites)  # those that can be computed
        if loss == "adaptive_rank":
            self.register_buffer("thresholds", torch.zeros(len(self.served), len(KINDS)))

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> TextFoil:
        """The settings of a published method: "negclip", "tsvlc", "ce_clip", "fsc_clip" or "sgvl".

        Args:
            name: The method.
            **changes: Arguments that differ.

        Raises:
            ValueError: If there is no such preset.
        """
        return cls(preset=name, **changes)

    def attach(self, backbone: Backbone) -> None:
        """Keep the sites that can be computed on the backbone.

        Raises:
            ValueError: If none can be, or a backbone that does not declare what it `provides` lacks a method.
        """
        self.served = served(self, backbone, {name: SITES[name] for name in self.sites})

    def views(self, batch: Batch) -> list[Pairs]:
        """The true texts and their foils."""
        return [batch.pairs] if batch.foils is None else [batch.pairs, batch.foils.pairs]

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the losses of all sites.

        Raises:
            ValueError: If the batch was made without foils.
        """
        batch = features.batch
        if batch.foils is None:
            raise ValueError("TextFoil needs a batch with foils, but this one has none: its collation must make them.")
        foils, true, false = batch.foils, features.view(batch.pairs), features.view(batch.foils.pairs)
        found = torch.zeros(len(true), dtype=torch.bool, device=foils.of.device)
        found = found.index_fill(0, foils.of, True)  # rows that have foils, (n,)
        parts: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        counts: dict[str, int | Tensor] = {}
        for number, site in enumerate(self.served):
            if site == "itc_columns":
                loss = columns(true, false)
                counts[f"{site}"] = len(true)
            else:
                loss, right = self._rows(number, site, true, false, foils, found)
                counts[f"{site}"] = found.sum()
                metrics[f"{site}_accuracy"] = right.float().sum() / max(1, len(right))
                counts[f"{site}_accuracy"] = len(right)
                for kind in (KINDS.index(name) for name in self._told_kinds):
                    here = foils.kinds == kind
                    name = f"{site}_{KINDS[kind]}"
                    metrics[name] = (right & here).sum() / here.sum().clamp(min=1)
                    counts[name] = here.sum()
            parts[f"{site}"] = self.sites[site] * loss
        return self.output(parts, len(foils), metrics, counts)

    def _rows(
        self, number: int, site: str, true: View, false: View, foils: Foils, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of a site where each text meets its own foils, and whether each foil has the lower score, (m,)."""
        if site == "itm":
            own_logits, foil_logits = true.matched, false.matched  # (n, 2) and (m, 2)
            own, other = own_logits[:, 1] - own_logits[:, 0], foil_logits[:, 1] - foil_logits[:, 0]
        else:
            own, other = self._cosines(site, true, false, foils)
        own_of = own[foils.of]  # the true text's score beside each foil's, (m,)
        right = own_of.detach() > other.detach()
        if site == "itm" and self.loss == "ce":
            positive, negative = equations.pair_losses(true.matched, false.matched)
            total = (positive * found).sum() + negative.sum()
            return mean_over_ranks(total, found.sum() + len(foils)), right
        if self.loss == "adaptive_rank" and site != "text_text":
            losses = equations.adaptive_rank(own_of, other, self.thresholds[number][foils.kinds])
            self._raise_thresholds(number, own_of, other, foils.kinds)
            return mean_over_ranks(losses.sum(), len(foils)), right
        rows = equations.foil_rows(own, other, foils.of, foils.slot, foils.width)  # (n, 1 + width)
        if self.loss == "focal" and site != "text_text":
            losses = equations.focal(rows, self.gamma, self.smoothing)
        else:
            losses = equations.cross_entropy(rows)
        return mean_over_ranks((losses * found).sum(), found.sum()), right

    def _cosines(self, site: str, true: View, false: View, foils: Foils) -> tuple[Tensor, Tensor]:
        """Scaled cosines of images and their texts, (n,), and of images (or true texts) and foils, (m,)."""
        image, text, foil = (x.float() for x in (true.image_embedding, true.text_embedding, false.text_embedding))
        with full_precision(image):
            scale = 1 / true.backbone.temperature.float() if self.scale is None else self.scale
            beside = (text if site == "text_text" else image)[foils.of]
            return scale * (image * text).sum(dim=1), scale * (beside * foil).sum(dim=1)

    @torch.no_grad()
    def _raise_thresholds(self, number: int, own: Tensor, foils: Tensor, kinds: Tensor) -> None:
        """Set the margins of a site by the joint batch that was just seen."""
        if not self.training:
            return
        zeros = self.thresholds.new_zeros(3, len(KINDS))
        seen = torch.stack([own.float(), foils.float(), torch.ones_like(foils, dtype=torch.float32)])  # (3, m)
        own_sums, foil_sums, count = sum_over_ranks(zeros.index_add(1, kinds, seen))
        self.thresholds[number] = equations.next_thresholds(self.thresholds[number], own_sums, foil_sums, count)


def columns(true: View, false: View) -> Tensor:
    """ITC over the joint batch with foils as further texts: half the loss of each direction, a scalar."""
    image, text, foil = (x.float() for x in (true.image_embedding, true.text_embedding, false.text_embedding))
    sizes, foil_sizes = true.sizes, false.sizes
    positive = torch.arange(len(true), device=image.device) + sum(sizes[: rank()])
    text_keys, foil_keys = true.pairs.text_keys, false.pairs.text_keys
    with full_precision(image):
        from_image, from_text = equations.column_losses(
            image,
            text,
            (gather(image, sizes), gather(text, sizes), gather(foil, foil_sizes)),
            (true.image_ids, gather(true.image_ids, sizes), gather(text_keys, sizes)),
            (text_keys, gather(foil_keys, foil_sizes)),
            positive,
            true.backbone.temperature.float(),
        )
    return mean_over_ranks((from_image.sum() + from_text.sum()) / 2, len(true))
