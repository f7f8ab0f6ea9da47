"""What an ablation trains: runs that differ in named factors, and two presets of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

ARMS: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "+VSG": ("vsg",),
    "+MRC": ("mrc",),
    "+both": ("vsg", "mrc"),
}
"""The arms, and the relation objectives that each trains."""

BACKBONES = {"ALBEF": "ALBEF", "X-VLM": "XVLM"}
"""The backbones, and their classes. X-VLM has VMA and BOX on the boxes of the annotated images, ALBEF has neither."""

Budget = Literal["steps", "compute"]
World = Literal["main", "long"]


@dataclass(frozen=True)
class Run:
    """One training run. The defaults of the factors are those of the main comparison.

    Args:
        backbone: "ALBEF" or "X-VLM".
        arm: One of `ARMS`.
        seed: Of the generated world, the initial weights and the order of the data.
        share: Share of the images that are annotated: boxes for X-VLM, graphs for VSG and MRC.
        max_relations: Triplets in a text of VSG, K.
        sort: Whether these are sorted.
        masked: Whether MRC masks everything outside an entity's box.
        mixture: Steps on captions to steps on graphs, as "2:3".
        budget: "steps" for as many as all others; "compute" for a baseline that trains as long as +both computes.
        world: "main", or "long" for scenes of more relations, whose texts are long.
    """

    backbone: str
    arm: str
    seed: int
    share: float = 0.05
    max_relations: int = 8
    sort: bool = True
    masked: bool = True
    mixture: str = "2:3"
    budget: Budget = "steps"
    world: World = "main"

    @property
    def name(self) -> str:
        """A name for its folder, of what differs from the defaults."""
        changed = [
            f"{f.name}-{getattr(self, f.name)}".replace(":", "to")
            for f in fields(self)
            if f.name not in ("backbone", "arm", "seed") and getattr(self, f.name) != f.default
        ]
        arm = self.arm.removeprefix("+").lower()
        return "_".join([self.backbone.lower(), arm, *changed, f"seed-{self.seed}"])

    @property
    def rivals(self) -> tuple[Run, Run]:
        """Of a baseline of equal compute: the run whose compute it gets, and the one that tells what a step costs."""
        return replace(self, arm="+both", budget="steps"), replace(self, budget="steps")


@dataclass(frozen=True)
class Preset:
    """A set of runs with all that they share.

    Args:
        name: Its name.
        recipe: The recipe of X-VLM with both objectives; `recipe.recipe_of` derives the others.
        worlds: Arguments of `data.synthetic.generate` for each world.
        steps: Steps of a run in each world.
        runs: What is trained.
        processes: How many runs side by side.
        settings: Of the recipe, by dotted paths, where they are other than it has them.
    """

    name: str
    recipe: Path
    worlds: dict[World, dict[str, Any]]
    steps: dict[World, int]
    runs: tuple[Run, ...]
    processes: int
    settings: dict[str, Any] = field(default_factory=dict)
