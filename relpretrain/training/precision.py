"""Which of Lightning's precisions training is served in."""

from __future__ import annotations

from relpretrain.errors import ConfigError

_SERVED = ("32-true", "bf16-mixed", "16-mixed")
_ALIASES = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def check_precision(precision: object) -> None:
    """Refuse a precision that has no fp32 weights.

    In half precision AdamW's steps and those of the momentum teacher are smaller than the weights' last digit and get
    lost; "mixed" is as fast and keeps them. Losses are in fp32 by design, which double precision has no use for.

    Args:
        precision: As Lightning's trainer takes it.

    Raises:
        ConfigError: If it is none of "32-true", "bf16-mixed" and "16-mixed", or their short names.
    """
    name = str(precision)
    if _ALIASES.get(name, name) in _SERVED:
        return
    double = name.startswith("64")
    why = "losses and similarities are computed in fp32" if double else "weights and losses must stay in fp32"
    remedy = "32-true" if double else "16-mixed" if name in ("16-true", "transformer-engine-float16") else "bf16-mixed"
    raise ConfigError(f"trainer.precision={name} is not served, because {why}: set trainer.precision={remedy}")
