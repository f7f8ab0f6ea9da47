import ast
import io
import json
import time
from pathlib import Path

import pytest

import relpretrain
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return load_tokenizer(write_wordpiece(["red square", "blue circle", "left of", "a", "and"], folder))


def test_nothing_is_unknown_to_a_written_wordpiece(tokenizer):
    ids = TextEncoder(tokenizer, 60).caption("The quick brown fox's 2 zebras, isn't it?").ids
    assert tokenizer.unk_token_id not in ids


def test_an_absent_folder_is_told_at_once():
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"There is no tokenizer folder './nowhere/tokenizer'"):
        load_tokenizer("./nowhere/tokenizer")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(("rank", "times"), [("0", 1), ("1", 0)])
def test_what_is_downloaded_is_said_once(monkeypatch, capsys, rank, times):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("relpretrain.data.pipeline.tokenizer.hub_is_reachable", lambda: True)

    def from_pretrained(name, local_files_only=False, **options):
        raise OSError("not in the cache" if local_files_only else "no such repository")

    monkeypatch.setattr("relpretrain.data.pipeline.tokenizer.AutoTokenizer.from_pretrained", from_pretrained)
    with pytest.raises(ValueError, match="no such repository"):
        load_tokenizer("bert-base-uncased")
    assert capsys.readouterr().err.count("Downloading the tokenizer 'bert-base-uncased' from huggingface.co") == times


def test_an_unreachable_hub_is_told(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"'no-such-tokenizer' .* cannot be reached. Give a folder"):
        load_tokenizer("no-such-tokenizer")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no tokenizer that can be read"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\n[UNK]\nword\n")
    with pytest.raises(ValueError, match=r"lacks \[MASK\]"):
        load_tokenizer(tmp_path)


def test_code_of_a_tokenizer_folder_is_neither_run_nor_asked_about(tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n")
    config = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["code.Mine", "code.Mine"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks on stdin"))
    with pytest.raises(ValueError, match="holds no tokenizer that can be read"):
        load_tokenizer(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_no_code_of_others_is_ever_trusted():
    """Every call of `from_pretrained` on a class of transformers says so."""
    found = 0
    for path in Path(relpretrain.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "from_pretrained":
                trusted = {k.arg: k.value for k in node.keywords}.get("trust_remote_code")
                assert isinstance(trusted, ast.Constant), f"{path}:{node.lineno}"
                assert trusted.value is False, f"{path}:{node.lineno}"
                found += 1
    assert found >= 6
