"""Scores pairs with generative models: the probability of "Yes" to a question about the text (VQAScore).

Lin et al., ECCV 2024, arXiv 2404.01291.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relpretrain.zeroshot.scorers.base import check_pairs
from relpretrain.zeroshot.scorers.loading import from_hub, hub_name
from relpretrain.zeroshot.scorers.matching import autocast, check_precision

QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
"""The question of the paper; {} stands for the text."""

ANSWER = "Yes"


class VQAScorer:
    """P("Yes") as the next token after an image and a question, over the whole vocabulary.

    The prompt is the model's own chat template where its processor has one, else the question alone behind the image
    token, if there is one. Of an answer of several tokens the first counts. Models with a decoder of their own (T5)
    are asked for the first token of their answer.

    Args:
        name: Folder or hub name of a model for images and text to text.
        device: Where to compute.
        batch_size: Pairs asked at once.
        max_tokens: Must be None: prompts are not cut.
        precision: "fp32", or "bf16" on CUDA or a CPU with instructions for it.
        question: What is asked, with {} for the text.

    Raises:
        ValueError: If the model cannot be loaded, or the question has no {}.
    """

    calibrated = True
    fuses = True

    def __init__(
        self,
        name: str,
        device: torch.device | str = "cpu",
        batch_size: int = 32,
        max_tokens: int | None = None,
        precision: str = "fp32",
        question: str = QUESTION,
    ) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if "{}" not in question:
            raise ValueError(f"--question needs {{}} in the place of the text; got {question!r}.")
        if max_tokens is not None:
            raise ValueError("--max-tokens is not for vqa: models: a question is never cut.")
        self.device = torch.device(device)
        self.precision = check_precision(precision, self.device)
        self.batch_size = batch_size
        self.question = question
        self.processor = from_hub(AutoProcessor, name, "processor")
        self.model: Any = from_hub(AutoModelForImageTextToText, name, "model").eval().to(self.device)
        self.name = hub_name(name, self.model)
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"  # the last place is the one that is asked
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.answer = int(tokenizer(ANSWER, add_special_tokens=False)["input_ids"][0])

    def notes(self) -> tuple[str, ...]:
        """What was asked."""
        return (f"score: P({ANSWER!r}) after {self.question.replace('{}', 'TEXT')!r}",)

    def encode_images(self, images: Sequence[Any]) -> list[Any]:
        """The images themselves: they are encoded with each question."""
        return list(images)

    def prompt(self, text: str) -> str:
        """What the model is given of a text."""
        question = self.question.replace("{}", text)
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            said: str = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            return said
        token = getattr(self.processor, "image_token", None)
        return f"{token}\n{question}" if isinstance(token, str) else question

    @torch.inference_mode()
    def score(self, image_features: list[Any], index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2), float32 on the CPU, whose softmax at index 1 is P("Yes")."""
        check_pairs(index, texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logits = torch.zeros(len(texts), 2)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            inputs = self.processor(
                images=[image_features[index[row]] for row in rows],
                text=[self.prompt(texts[row]) for row in rows],
                padding=True,
                return_tensors="pt",
            ).to(self.device)
            if self.model.config.is_encoder_decoder:
                first = self.model.config.get_text_config().decoder_start_token_id
                inputs["decoder_input_ids"] = torch.full((len(rows), 1), first, device=self.device)
            with autocast(self.precision, self.device):
                said = self.model(**inputs).logits[:, -1]
            yes = said.float().log_softmax(dim=-1)[:, self.answer].double()
            no = torch.log(-torch.expm1(yes.clamp(max=-1e-12)))
            logits[rows] = torch.stack([no, yes], dim=-1).float().cpu()
        return logits.clamp(min=-math.log(torch.finfo(torch.float32).max))
