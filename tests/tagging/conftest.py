"""A small world and a model with a tagger's head, made once."""

import pytest
import torch

from relpretrain.backbones.xvlm import XVLM
from relpretrain.checkpoints import Loaded
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.objectives import RelationTagger
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.synthetic import generate


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    few = {"images_captions": 2, "images_regions": 12, "images_graphs": 24, "images_validation": 2}
    made = tmp_path_factory.mktemp("tagging") / "world"
    return generate(made, **few, items_vsr=3, items_valse=2, objects=(2, 3), shard_size=4)


@pytest.fixture(scope="session")
def loaded(world):
    tokenizer = load_tokenizer(str(world / "tokenizer"))
    torch.manual_seed(0)
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(tokenizer), dropout=0.0)
    tagger = RelationTagger(RelationVocabulary.load(world / "relations.json"))
    tagger.attach(backbone)
    torch.nn.init.normal_(tagger.head[-1].weight, std=1.0)
    return Loaded(backbone, Preprocess(tokenizer, 32), {"tagger": tagger}, tagger.vocabulary)


@pytest.fixture(scope="session")
def checkpoint(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    loaded.save_pretrained(folder)
    return folder
