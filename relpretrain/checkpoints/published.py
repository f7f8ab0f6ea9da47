"""The published checkpoints of ALBEF and X-VLM, and the zero-shot scores that they are known to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A published checkpoint.

    Args:
        file: File name as published.
        model: Name and size of the model.
        source: Address of the authors' repository.
        data: Image data sets that it was trained on.
        image_size: Height and width of its images in pixels.
        vsr: Zero-shot accuracy on VSR, random split, dev and test, in percent.
        valse: Zero-shot pairwise accuracy over all items of VALSE, in percent.
    """

    file: str
    model: str
    source: str
    data: str
    image_size: int
    vsr: tuple[float, float]
    valse: float


_ALBEF, _XVLM = "https://github.com/salesforce/ALBEF", "https://github.com/zengyan-97/X-VLM"
_SMALL = "COCO, VG, CC3M, SBU"
KNOWN = (
    Known("ALBEF_4M.pth", "ALBEF 4M", _ALBEF, _SMALL, 256, (58.0, 57.3), 69.1),
    Known("ALBEF.pth", "ALBEF 14M", _ALBEF, f"{_SMALL}, CC12M", 256, (60.2, 58.3), 69.4),
    Known("4m_base_model_state_step_199999.th", "X-VLM 4M", _XVLM, _SMALL, 224, (66.6, 63.0), 72.4),
    Known(
        "16m_base_model_state_step_199999.th",
        "X-VLM 16M",
        _XVLM,
        f"{_SMALL}, CC12M, Objects365, OpenImages, RefCOCO",
        224,
        (67.9, 64.3),
        74.5,
    ),
)
"""The scores are those of the authors' weights in "Measuring Progress in Fine-grained Vision-and-Language
Understanding" (Bugliarello et al., ACL 2023, arXiv 2305.07558), computed from its stored scores."""


def table() -> str:
    """The known checkpoints as a text table."""
    head = ("file", "model", "pixels", "VSR dev", "VSR test", "VALSE", "trained on", "source")
    rows = [head] + [
        (k.file, k.model, str(k.image_size), f"{k.vsr[0]:.1f}", f"{k.vsr[1]:.1f}", f"{k.valse:.1f}", k.data, k.source)
        for k in KNOWN
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
