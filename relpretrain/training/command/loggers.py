"""Where a run logs: always to its metrics.csv, and wherever else the recipe says."""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from relpretrain.errors import ConfigError
from relpretrain.training.command.resuming import METRICS, rows, rows_up_to
from relpretrain.writing import aside


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
        folder: Where metrics.csv goes. An earlier one is put aside, unless its rows are those to begin with.
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
    return [MetricsLog(folder, earlier), *others]


class MetricsLog(Logger):
    """metrics.csv in a run's folder: a row a call, a column a name; whatever was logged is in the file.

    It is begun when all else is ready to train, so that a run that never comes to it leaves an earlier file as it is.

    Args:
        folder: Where it goes. An earlier one that has other rows becomes metrics-1.csv, metrics-2.csv and so on.
        earlier: Rows to begin with.
    """

    def __init__(self, folder: Path, earlier: Sequence[Mapping[str, float]] = ()) -> None:
        super().__init__()
        self.path = folder / METRICS
        self._columns: list[str] = []
        self._earlier: list[dict[str, float]] | None = [dict(row) for row in earlier]  # None: it has begun

    @property
    def name(self) -> str:
        """Empty: Lightning makes a folder of it, and would look for checkpoints and keep them there."""
        return ""

    @property
    def version(self) -> str:
        """None: every run has a folder of its own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder."""
        return str(self.path.parent)

    log_dir = save_dir

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the settings are in config.yaml."""

    @rank_zero_only  # type: ignore[misc]  # of Lightning
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; with a new column, write the file anew."""
        self._begin()
        row = {**{name: float(value) for name, value in metrics.items()}, "step": int(step or 0)}
        if new := row.keys() - set(self._columns):
            self._write(new, [*rows(self.path), row])
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only  # type: ignore[misc]
    def save(self) -> None:
        """Begin the file: what Lightning calls before the first step."""
        self._begin()

    def finalize(self, status: str) -> None:
        """Nothing: all that was logged is in the file, which a run that fails before its first step does not begin."""

    def _begin(self) -> None:
        earlier, self._earlier = self._earlier, None
        if earlier is None:
            return
        if self.path.is_file() and not self._holds(earlier):
            number = 1
            while (kept := self.path.with_stem(f"{self.path.stem}-{number}")).exists():
                number += 1
            shutil.copyfile(self.path, kept)  # until the new one is there, the old one keeps its name
        if earlier:
            self._write(set[str]().union(*earlier), [{**row, "step": int(row["step"])} for row in earlier])
        else:
            self.path.unlink(missing_ok=True)

    def _holds(self, earlier: Iterable[Mapping[str, float]]) -> bool:
        """Whether the file has these rows and no others. Compared as text: a NaN is none that equals itself."""
        try:
            found = rows_up_to(self.path, math.inf)
        except ValueError:
            return False
        first, second = ([{name: repr(cell) for name, cell in row.items()} for row in of] for of in (found, earlier))
        return first == second

    def _write(self, new: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
        self._columns = sorted({*self._columns, *new})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        with aside(self.path) as file:
            file.write(text.getvalue().encode())
