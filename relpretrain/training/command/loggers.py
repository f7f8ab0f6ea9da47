"""Where a run logs: always to its metrics.csv, and wherever else the recipe says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from relpretrain.errors import ConfigError
from relpretrain.training.command.resuming import METRICS


class TensorBoard(TensorBoardLogger):
    """TensorBoard's files in the run's folder: `--trainer.logger=TensorBoard`.

    Args:
        save_dir: Another folder for them; theirs is `tensorboard` in it.
    """

    def __init__(self, save_dir: str | None = None) -> None:
        self.placed = save_dir is not None
        try:
            super().__init__(save_dir or ".", name="", version="tensorboard", default_hp_metric=False)
            self.missing = False
        except ModuleNotFoundError:  # told by `loggers`: the parser would wrap it in a page of its own
            self.missing = True


def loggers(given: Any, folder: Path, earlier: Sequence[Mapping[str, float]] = ()) -> list[Any] | bool:
    """The loggers of a run: metrics.csv in its folder, which reports are made from, then those of the recipe.

    Args:
        given: The recipe's `trainer.logger`, built: one, several, None, or whether to log at all.
        folder: Where metrics.csv goes. An earlier one is put aside.
        earlier: Rows for it to begin with: what a run that is gone on with had logged.

    Raises:
        ConfigError: If TensorBoard is asked for and its package is missing.
    """
    if given is False:
        return False
    others = [] if given in (None, True) else list(given) if isinstance(given, Iterable) else [given]
    if any(isinstance(other, TensorBoard) and other.missing for other in others):
        raise ConfigError("trainer.logger: TensorBoard needs a package that is not installed: pip install tensorboard")
    others = [TensorBoard(str(folder)) if isinstance(o, TensorBoard) and not o.placed else o for o in others]
    if any(isinstance(other, CSVLogger) and Path(other.log_dir) == folder for other in others):
        return others
    put_aside(folder / METRICS)
    own = CSVLogger(folder.parent, name=folder.name, version="")
    for row in earlier:
        own.log_metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
    if earlier:
        own.save()
    return [own, *others]


@rank_zero_only  # type: ignore[misc]  # of Lightning
def put_aside(metrics: Path) -> None:
    """Rename an earlier run's metrics: a new CSVLogger would delete them."""
    if metrics.is_file():
        number = 1
        while (kept := metrics.with_stem(f"{metrics.stem}-{number}")).exists():
            number += 1
        metrics.rename(kept)
