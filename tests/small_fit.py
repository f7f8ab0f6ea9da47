"""`relpretrain fit` on small shards: a recipe's own settings, with everything that costs made tiny."""

from collections.abc import Callable, Mapping
from pathlib import Path

from relpretrain.cli import main
from relpretrain.scene_graph import RelationVocabulary
from tests.data.small import tokenizer, write_shards

RECIPES = Path(__file__).parents[1] / "recipes"


def small_fit(folder: Path, recipe: str, sizes: Mapping[str, int], steps: int) -> Callable[..., int]:
    """Write shards into `folder`, the working directory; returns what calls the command with further arguments.

    Args:
        folder: Holds `shards` with 24 images, and gets the run.
        recipe: Its name.
        sizes: Batch size of each stream.
        steps: Of training.
    """
    write_shards(folder / "shards")
    RelationVocabulary(("beside", "on", "under")).save(folder / "relations.json")
    tiny = ["--run=run", f"--trainer.max_steps={steps}", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu"]
    tiny += ["--model.backbone.size=tiny", "--model.backbone.image_size=16", "--data.image_size=16"]
    tiny += ["--model.backbone.pretrained_image=null", "--model.backbone.pretrained_text=null"]
    tiny += ["--model.objectives.mrc.init_args.vocabulary=relations.json", "--data.num_workers=0"]
    tiny += [f"--data.tokenizer={tokenizer(folder)}"]
    for name, size in sizes.items():
        tiny += [f'--data.streams.{name}.datasets={{"small": "shards"}}', f"--data.streams.{name}.batch_size={size}"]
    return lambda *arguments: main(["fit", "-c", str(RECIPES / f"{recipe}.yaml"), *tiny, *arguments])
