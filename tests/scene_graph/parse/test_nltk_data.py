"""The parser lexicon with nltk's data: a tagger trained here, and a WordNet of one word."""

import json

import nltk.data
import pytest
from nltk.tag.perceptron import PerceptronTagger

from relpretrain.scene_graph.parse import build_parser
from relpretrain.scene_graph.parse.lexicon import tagging

NAME = "averaged_perceptron_tagger_eng"
SENTENCES = [
    [("a", "DT"), ("wug", "NN"), ("on", "IN"), ("a", "DT"), ("sofa", "NN")],
    [("two", "CD"), ("red", "JJ"), ("wug", "NN"), ("near", "IN"), ("dogs", "NNS")],
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    tagger = PerceptronTagger(load=False)
    tagger.train(SENTENCES * 5, nr_iter=3)
    folder = tmp_path / "taggers" / NAME
    folder.mkdir(parents=True)
    parts = {"weights": tagger.model.weights, "tagdict": tagger.tagdict, "classes": sorted(tagger.classes)}
    for part, content in parts.items():
        (folder / f"{NAME}.{part}.json").write_text(json.dumps(content))
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])


def test_tags_come_from_the_tagger_and_closed_words_keep_theirs(data):
    tags = tagging.nltk_tagger()
    assert tags(["a", "red", "wug", "near", "his", "sofa"]) == ["DT", "JJ", "NN", "IN", "PRP$", "NN"]
    assert tags([]) == []


def test_the_parser_takes_both(data, monkeypatch):
    monkeypatch.setattr(tagging.WordNetNouns, "__init__", lambda self: None)
    monkeypatch.setattr(
        tagging.WordNetNouns, "_lemmatize", lambda self, word, part: "zug" if word == "wug" else word, raising=False
    )
    parser = build_parser("lexicon", nltk_data=True)
    (parsed,) = parser.parse(["a red wug near two dogs"])
    assert [(entity.label, entity.attributes) for entity in parsed.entities] == [("zug", ("red",)), ("dog", ("two",))]
    assert [relation.relation for relation in parsed.relations] == ["near"]
    assert parser.version != build_parser("lexicon").version
