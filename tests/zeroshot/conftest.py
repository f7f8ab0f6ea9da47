import pytest
import torch

from relpretrain.backbones.xvlm import XVLM
from relpretrain.checkpoints.checkpoint import KEY, describe
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.objectives import MRC
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.synthetic import generate


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A generated world with benchmarks and held-out graphs."""
    sizes = {"images_captions": 1, "images_regions": 1, "images_graphs": 1, "images_validation": 12}
    return generate(tmp_path_factory.mktemp("zeroshot") / "world", items_vsr=9, items_valse=5, **sizes)


@pytest.fixture(scope="session")
def checkpoint(world):
    """An untrained X-VLM with an MRC head, as training would store it."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(world / "tokenizer")
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(tokenizer))
    objectives = {"mrc": MRC(RelationVocabulary.load(world / "relations.json"))}
    objectives["mrc"].attach(backbone)
    state = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    state |= {f"objectives.mrc.{k}": v for k, v in objectives["mrc"].state_dict().items()}
    path = world / "tiny.ckpt"
    described = describe(backbone, objectives, Preprocess(tokenizer, image_size=32))
    torch.save({KEY: described, "state_dict": state}, path)
    return path
