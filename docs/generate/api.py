"""The pages of the Python interface: which modules, and mkdocstrings' line for each."""

from __future__ import annotations

_PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "package": (
        "relpretrain",
        "What `import relpretrain` gives.",
        (
            "relpretrain.adapters.add_relation_objectives",
            "relpretrain.adapters.relation_parameters",
            "relpretrain.adapters.remove_relation_objectives",
            "relpretrain.data.graph_loader.graph_loader",
            "relpretrain.data.graph_loader.GraphLoader",
            "relpretrain.checkpoints.checkpoint.load",
            "relpretrain.checkpoints.checkpoint.Loaded",
        ),
    ),
    "scene_graph": (
        "Scene graphs",
        "What is in an image, where, and how it relates; needs no torch.",
        (
            "relpretrain.scene_graph.entity",
            "relpretrain.scene_graph.graph",
            "relpretrain.scene_graph.verbalise",
            "relpretrain.scene_graph.vocabulary",
            "relpretrain.scene_graph.parse",
        ),
    ),
    "objectives": (
        "Objectives",
        "The losses. The [catalogue](../../objectives.md) has their equations and sources.",
        (
            "relpretrain.objectives.base",
            "relpretrain.objectives.contrastive",
            "relpretrain.objectives.matching",
            "relpretrain.objectives.language",
            "relpretrain.objectives.masked_region",
            "relpretrain.objectives.box",
            "relpretrain.objectives.scene_graph",
            "relpretrain.objectives.relation",
            "relpretrain.objectives.text_foil",
            "relpretrain.objectives.units",
            "relpretrain.objectives.multi_positive",
            "relpretrain.objectives.tagger",
        ),
    ),
    "backbones": (
        "Backbones",
        "The models, and the protocol that they satisfy.",
        (
            "relpretrain.backbones.albef",
            "relpretrain.backbones.xvlm",
            "relpretrain.types.protocols",
            "relpretrain.types.batches",
            "relpretrain.types.movable",
            "relpretrain.types.normalisation",
            "relpretrain.types.outputs",
            "relpretrain.features.step",
            "relpretrain.features.view",
            "relpretrain.features.regions",
        ),
    ),
    "adapters": (
        "Adapters",
        "Models of other codebases, seen as backbones.",
        ("relpretrain.adapters.hosts.base",),
    ),
    "data": (
        "Data",
        "Streams, the data module, and stages for webdataset pipelines.",
        (
            "relpretrain.data.sampling.stream",
            "relpretrain.data.datamodule",
            "relpretrain.data.pipeline.webdataset_stages",
            "relpretrain.data.pipeline.preprocess",
            "relpretrain.synthetic.options",
        ),
    ),
    "training": (
        "Training",
        "The LightningModule of a run.",
        ("relpretrain.training.module", "relpretrain.training.optim"),
    ),
    "zeroshot": (
        "Zero-shot",
        "Scorers, tasks and figures.",
        (
            "relpretrain.zeroshot.callback",
            "relpretrain.zeroshot.scorers.base",
            "relpretrain.zeroshot.scorers.matching",
            "relpretrain.zeroshot.tasks.common.base",
            "relpretrain.zeroshot.analysis.table",
        ),
    ),
}


def api_pages() -> dict[str, str]:
    """Markdown by the page's place on the site."""
    pages = {}
    for name, (title, said, modules) in _PAGES.items():
        parts = "\n\n".join(f"::: {module}" for module in modules)
        pages[f"reference/api/{name}.md"] = f"# {title}\n\n{said}\n\n{parts}\n"
    return pages
