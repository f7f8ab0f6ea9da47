"""The parser that reads triplets off a dependency tree of spaCy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse.dependencies import read_tree
from relpretrain.scene_graph.parse.lexicon.tokens import LONGEST
from relpretrain.scene_graph.parse.record import ParsedCaption

MODEL = "en_core_web_sm"


class SpacyParser:
    """Rules over the dependency tree of a caption, whose labels are those of spaCy's English pipelines.

    Args:
        model: A pipeline: its name, or the folder of one.
        batch: Captions that spaCy takes at once.

    Raises:
        ConfigError: If spaCy or the pipeline is not installed; says how to get it.
    """

    name = "spacy"

    def __init__(self, model: str = MODEL, batch: int = 256) -> None:
        self._pipeline: Any = load_pipeline(model)
        self._batch = batch
        meta = self._pipeline.meta
        self.version = f"3-{meta.get('lang')}_{meta.get('name')}-{meta.get('version')}"

    def parse(self, captions: Sequence[str]) -> list[ParsedCaption]:
        """Parse captions, one record each, in their order."""
        texts = (
            caption[:LONGEST].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            for caption in captions
        )
        return [read_tree(doc) for doc in self._pipeline.pipe(texts, batch_size=self._batch)]


def load_pipeline(model: str = MODEL) -> Any:
    """Load a spaCy pipeline for tags and dependencies.

    Raises:
        ConfigError: If spaCy or the pipeline is not installed; says how to get it.
    """
    try:
        import spacy
    except ImportError:
        raise ConfigError("spaCy is not installed: pip install 'relpretrain[parse]'") from None
    try:
        pipeline: Any = spacy.load(model, exclude=["ner", "lemmatizer"])
    except OSError as error:
        raise ConfigError(
            f"no spaCy pipeline {model!r} ({str(error).partition(chr(10))[0]:.120}): python -m "
            f"spacy download {MODEL}, or name an installed one or its folder (model=...)"
        ) from None
    missing = {"parser", "tagger"} - set(pipeline.pipe_names)
    if missing:
        raise ConfigError(f"the spaCy pipeline {model!r} has no {' and no '.join(sorted(missing))}: take {MODEL}")
    return pipeline
