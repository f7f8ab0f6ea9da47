import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse import build_parser, factual_parser

TEXT = "<pad> </s> <unk> ( ) , is on cat sofa black a the dog sit Generate Scene Graph :"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    """A T5 of random weights."""
    import torch

    folder = tmp_path_factory.mktemp("t5")
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return build_parser("factual", model=str(folder), batch=2)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(factual_parser, "LONGEST_TEXT", 12)


def test_captions_go_through_the_model_in_batches(parser):
    texts = ["a cat on the sofa", "", "black dog", "\ud83d " * 3, "cat " * 3000]
    assert parser.parse(texts)[:3] == parser.parse(texts[:3])
    assert len(parser.parse(texts)) == 5
    assert parser.parse([]) == []
    graphs = parser._graphs(texts[:2])
    assert all(isinstance(text, str) and 0 < sure <= 1 for text, sure in graphs)


def test_the_probability_is_that_of_the_written_tokens(parser):
    import torch

    (_, sure), *_ = parser._graphs(["a cat"])
    tokens = parser._tokenizer(["Generate Scene Graph: a cat"], return_tensors="pt").input_ids
    written = parser._model.generate(input_ids=tokens, max_length=12, num_beams=1, do_sample=False)
    if not written[:, 1:].any():
        pytest.skip("this version's new weights write nothing")
    with torch.no_grad():
        logits = parser._model(input_ids=tokens, decoder_input_ids=written[:, :-1]).logits.log_softmax(-1)
    each = logits.gather(-1, written[:, 1:, None])[written[:, 1:] != 0]
    assert sure == pytest.approx(each.mean().exp().item(), rel=1e-4)


def test_recorded_graphs_become_records(parser, monkeypatch):
    recorded = {
        "trees and bushes growing on green lawn": "( bushes , grow on , lawn ) , "
        "( trees , grow on , lawn ) , ( lawn , is , green )",
        "five boats tied to a dock": "( boats , tie to , dock ) , ( boats , is , 5 )",
    }
    monkeypatch.setattr(parser, "_graphs", lambda captions: [(recorded[caption], 0.9) for caption in captions])
    first, second = parser.parse(list(recorded))
    assert [e.label for e in first.entities] == ["bush", "lawn", "tree"]
    assert [(r.subject, r.relation, r.object) for r in first.relations] == [(0, "growing on", 1), (2, "growing on", 1)]
    assert second.entities[0].attributes == ("5",)
    assert second.relations[0].relation == "tied to"
    assert second.relations[0].confidence == 0.9


def test_a_missing_model_is_told(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no model .*huggingface-cli download lizhuang144/flan-t5-base-VG-factual-sg"
    ):
        build_parser("factual", model=str(tmp_path / "none"))
