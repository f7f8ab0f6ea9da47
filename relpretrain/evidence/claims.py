"""What the runs were to show, and whether they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relpretrain.evidence.results import Figure, Selection, by_seed
from relpretrain.evidence.statistics import Estimate, hundredths, mean_over_seeds, paired_difference


@dataclass(frozen=True)
class Claim:
    """A difference between two sets of runs, and how large it must be.

    Args:
        text: The claim in words, in Markdown.
        probes: Where it is measured; several are averaged within a run.
        metric: What is measured there.
        treatment: The runs it is about (factors that are not named: those of the main comparison).
        control: The runs it compares them with, seed by seed.
        at_least: Smallest mean difference. Above 0, the interval must be above 0 too. At or below 0, the claim is that
            nothing much is lost, and the mean decides.
    """

    text: str
    probes: tuple[str, ...]
    metric: str
    treatment: Selection
    control: Selection
    at_least: float


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim.

    Args:
        claim: The claim.
        control: Mean of the control, over the seeds that both have.
        treatment: Likewise of the treatment.
        difference: Treatment minus control.
    """

    claim: Claim
    control: Estimate
    treatment: Estimate
    difference: Estimate

    @property
    def is_held(self) -> bool:
        """Whether the claim holds; never without an interval, which takes two seeds."""
        if self.difference.seeds < 2:
            return False
        return self.difference.mean >= self.claim.at_least and (self.claim.at_least <= 0 or self.difference.sign > 0)

    @property
    def row(self) -> list[str]:
        """Cells of `HEADER`."""
        found, needed = self.difference, self.claim.at_least
        least = f"≥ {hundredths(needed, '+')}"
        if not found.seeds:
            return [self.claim.text, "not run", "", least, "**no**: not run", "0"]
        levels = f"{hundredths(self.control.mean)} → {hundredths(self.treatment.mean)}"
        interval = f"{hundredths(found.low, '+')} to {hundredths(found.high, '+')}" if found.seeds > 1 else "none"
        figure = f"**{hundredths(found.mean, '+')}** ({levels})"
        return [self.claim.text, figure, interval, least, self._held(), str(found.seeds)]

    def _held(self) -> str:
        found, needed = self.difference, self.claim.at_least
        if found.seeds < 2:
            return "**no**: one seed"
        if self.is_held:
            return "yes (mean)" if needed <= 0 and found.low < needed else "yes"
        if found.mean < needed:
            return "**no**: too small"
        return "**no**: interval"


HEADER = ["claim", "figure, points", "95 % interval", "needed", "held?", "seeds"]


def judge(claim: Claim, figures: Sequence[Figure]) -> Verdict:
    """Hold a claim against the figures of the runs' last steps.

    Raises:
        ValueError: If the claim's selections mean several runs of a seed.
    """
    control = by_seed(figures, claim.probes, claim.metric, **claim.control)
    treatment = by_seed(figures, claim.probes, claim.metric, **claim.treatment)
    both = sorted(control.keys() & treatment.keys())
    before, after = (mean_over_seeds([values[seed] for seed in both]) for values in (control, treatment))
    return Verdict(claim, before, after, paired_difference(control, treatment))
