"""The parser of FACTUAL: a T5 that writes a caption's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relpretrain.errors import ConfigError, suggest
from relpretrain.reading import mend
from relpretrain.scene_graph.parse.graph_text import read_graph_text
from relpretrain.scene_graph.parse.lexicon.tokens import LONGEST
from relpretrain.scene_graph.parse.placing import place_in
from relpretrain.scene_graph.parse.record import ParsedCaption

MODEL = "lizhuang144/flan-t5-base-VG-factual-sg"
PROMPT = "Generate Scene Graph: "
LONGEST_TEXT = 200
"""Tokens of a caption that are read, and of a graph that is written, as FACTUAL's authors have it."""


class FactualParser:
    """A Flan-T5 of FACTUAL (Li et al., 2023, arXiv 2305.17497), as its authors run it.

    The models are lizhuang144/flan-t5-{small,base,large}-VG-factual-sg, and the same with "-id", which tell several
    things of one name apart. The confidence of a caption's triplets is the mean probability of the tokens that the
    model wrote, a geometric mean.

    Args:
        model: Name of a model on the Hugging Face hub, or its folder.
        batch: Captions that are parsed together.
        device: Where the model runs, such as "cuda:1"; None takes the GPU if there is one.
        dtype: Precision of the model: "float32", or "bfloat16", which is faster on GPUs.

    Raises:
        ConfigError: If the model cannot be had.
        ValueError: If the device cannot be used.
    """

    name = "factual"

    def __init__(self, model: str = MODEL, batch: int = 64, device: str | None = None, dtype: str = "float32") -> None:
        if dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"no dtype {dtype!r} of the parser factual{suggest(dtype, ('float32', 'bfloat16'))}")
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        from transformers.utils import is_torch_cuda_available

        from relpretrain.distributed import check_device

        device = check_device(device or ("cuda" if is_torch_cuda_available() else "cpu"))
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            network: Any = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no model {model!r} ({str(error).strip().partition(chr(10))[0]:.120}): download it once where "
                f"there is network (huggingface-cli download {MODEL}), or name its folder (model=...)"
            ) from None
        network = network.bfloat16() if dtype == "bfloat16" else network.float()
        self._model = network.to(device).eval()
        self._batch = batch
        self.version = f"1-{model.rstrip('/').rsplit('/', 1)[-1]}"

    def parse(self, captions: Sequence[str]) -> list[ParsedCaption]:
        """Parse captions, one record each, in their order; captions of like length are parsed together."""
        order = sorted(range(len(captions)), key=lambda i: len(captions[i]))
        found: dict[int, ParsedCaption] = {}
        for start in range(0, len(order), self._batch):
            rows = order[start : start + self._batch]
            graphs = self._graphs([captions[i] for i in rows])
            for i, (text, confidence) in zip(rows, graphs, strict=True):
                found[i] = place_in(captions[i], read_graph_text(text), confidence)
        return [found[i] for i in range(len(captions))]

    def _graphs(self, captions: Sequence[str]) -> list[tuple[str, float]]:
        """The text of each caption's graph, and how sure the model is of it."""
        texts = [PROMPT + " ".join(mend(caption[:LONGEST]).split()) for caption in captions]
        batch = self._tokenizer(texts, max_length=LONGEST_TEXT, truncation=True, padding=True, return_tensors="pt")
        written = self._model.generate(
            **{key: batch[key].to(self._model.device) for key in ("input_ids", "attention_mask")},
            max_length=LONGEST_TEXT,
            num_beams=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        scores = self._model.compute_transition_scores(written.sequences, written.scores, normalize_logits=True)
        real = (written.sequences[:, -scores.shape[1] :] != self._tokenizer.pad_token_id).to(scores.dtype)
        means = ((scores.nan_to_num(neginf=0.0) * real).sum(1) / real.sum(1).clamp(min=1)).exp().tolist()
        return list(zip(self._tokenizer.batch_decode(written.sequences, skip_special_tokens=True), means, strict=True))
