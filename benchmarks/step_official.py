"""A process that takes steps of the authors' code, from the user's own checkout. `benchmarks/step_beside.py` starts it.

The checkout (salesforce/ALBEF or zengyan-97/X-VLM) is first on the process's path, and builds its model with new
weights, in its own numbers. What the versions of its packages had, and today's have no more, is put in their place.
"""

from __future__ import annotations

import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from torch import nn

from benchmarks.step_live import live_mb
from benchmarks.step_worker import gflop, measure, serve

MARKS = {"ALBEF": ("models/model_pretrain.py", "class ALBEF"), "X-VLM": ("models/xvlm.py", "class XVLMBase")}
"""A file of each checkout, and what is in it."""


def recognise(path: Path) -> str | None:
    """Whose checkout a folder is: "ALBEF", "X-VLM" or None."""
    for name, (file, text) in MARKS.items():
        found = path / file
        if found.is_file() and text in found.read_text(encoding="utf-8", errors="replace"):
            return name
    return None


class Official:
    """A model of the authors' code and its optimizer.

    Args:
        asked: model ("ALBEF" or "X-VLM"), vision (of X-VLM: "swin" or "vit"), path, image_size, dropout, queue_size
            (of ALBEF), device, precision.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.device = torch.device(asked["device"])
        self.precision = {"fp32": None, "bf16": torch.bfloat16}[asked["precision"]]
        self.albef = asked["model"] == "ALBEF"
        older_transformers()
        with tempfile.TemporaryDirectory() as folder:
            meet = f"file://{folder}/rendezvous"
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", meet, rank=0, world_size=1)
            build = _albef if self.albef else _xvlm
            self.model: Any = build(Path(asked["path"]), Path(folder), asked).to(self.device).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Take one step, the optimizer's included, and tell what it took."""
        given = {name: value.to(self.device) for name, value in torch.load(order["batch"]).items()}
        if order["do"] == "live":
            return {"live_mb": live_mb(lambda: self._train(given), self.model, self.optimizer)}
        if order["do"] == "flops":
            return {"gflop": gflop(lambda: self._train(given))}
        return measure(lambda: self._train(given), self.device)

    def _train(self, given: dict[str, torch.Tensor]) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            losses = self._albef_losses(**given) if self.albef else self._xvlm_losses(**given)
        sum(losses, start=torch.zeros((), device=self.device)).backward()
        self.optimizer.step()

    def _albef_losses(self, images: Any, ids: Any, mask: Any, masked: Any, labels: Any) -> Any:
        self.model.mask = lambda *args, **named: (masked, labels)  # the same words are masked as in our step
        return self.model(images, types.SimpleNamespace(input_ids=ids, attention_mask=mask), alpha=0.4)

    def _xvlm_losses(
        self, images: Any, ids: Any, mask: Any, masked: Any, places: Any, words: Any, **regions: Any
    ) -> Any:
        named = {"text_ids_masked": masked, "masked_pos": places, "masked_ids": words}
        return self.model(images, ids, mask, **named, **regions, ret_bbox_loss=bool(regions))


def stub(name: str, **attributes: Any) -> None:
    """Put a module into the place of one that is not needed."""
    sys.modules[name] = module = types.ModuleType(name)
    vars(module).update(attributes)


def older_transformers() -> None:
    """What transformers 4.8 had and 5 has not."""
    from transformers import modeling_utils, pytorch_utils

    def nothing(*args: Any, **kwargs: Any) -> Any:
        return lambda function: function

    decorators = ("add_code_sample_docstrings", "add_start_docstrings", "add_start_docstrings_to_model_forward")
    names = dict.fromkeys([*decorators, "replace_return_docstrings"], nothing)
    stub("transformers.file_utils", ModelOutput=transformers.utils.ModelOutput, **names)
    library: Any = modeling_utils
    library.apply_chunking_to_forward = pytorch_utils.apply_chunking_to_forward
    library.find_pruneable_heads_and_indices = library.prune_linear_layer = None
    model = library.PreTrainedModel
    model.init_weights = lambda self: self.apply(self._init_weights)
    model.get_head_mask = lambda self, mask, layers, *rest: [None] * layers
    model.invert_attention_mask = lambda self, mask: (
        (1.0 - mask[:, None, None].to(self.dtype)) * torch.finfo(self.dtype).min
    )
    defaults = {"is_decoder": False, "add_cross_attention": False, "chunk_size_feed_forward": 0, "use_cache": True}
    defaults |= {"output_attentions": False, "output_hidden_states": False, "gradient_checkpointing": False}
    more: dict[str, Any] = {"position_embedding_type": "absolute", "use_return_dict": True, "pruned_heads": {}}
    for name, value in (defaults | more).items():
        if not hasattr(transformers.PretrainedConfig, name):
            setattr(transformers.PretrainedConfig, name, value)


def new_weights(kind: Any) -> None:
    """Instead of downloading: a new model, its words tied as they were."""

    def from_pretrained(name: str | None, config: Any = None, output_loading_info: bool = False) -> Any:
        model = kind(config)
        model.cls.predictions.decoder.weight = model.bert.embeddings.word_embeddings.weight
        model.cls.predictions.decoder.bias = model.cls.predictions.bias
        return (model, {"missing_keys": []}) if output_loading_info else model

    kind.from_pretrained = staticmethod(from_pretrained)


def unused_parts_of_xvlm() -> None:
    """Modules that X-VLM's pretraining imports and does not call; of its `utils`, the one function that it does."""
    stub("utils", read_json=lambda path: json.loads(Path(path).read_text(encoding="utf-8")))
    stub("models.xroberta", RobertaConfig=None, RobertaForMaskedLM=None, RobertaModel=None)


def _albef(path: Path, folder: Path, asked: dict[str, Any]) -> nn.Module:
    from models import model_pretrain, xbert  # type: ignore[import-not-found]

    new_weights(xbert.BertForMaskedLM)
    config = {"mlm_probability": 0.15, "embed_dim": 256, "image_res": asked["image_size"], "vision_width": 768}
    config |= {"temp": 0.07, "queue_size": asked["queue_size"], "momentum": 0.995}
    config |= {"bert_config": _bert(path, folder, asked["dropout"])}
    return model_pretrain.ALBEF(config=config, init_deit=False)  # type: ignore[no-any-return]


def _xvlm(path: Path, folder: Path, asked: dict[str, Any]) -> nn.Module:
    unused_parts_of_xvlm()
    from models import model_pretrain, xbert  # type: ignore[import-not-found]
    from models import xvlm as base

    new_weights(xbert.BertForMaskedLM)
    build = base.build_vision_encoder
    base.build_vision_encoder = lambda config, load_params: build(config)  # new weights
    swin = asked["vision"] == "swin"
    config = {"image_res": asked["image_size"], "patch_size": 32 if swin else 16, "use_swin": swin}
    config |= {"use_clip_vit": False, "vision_config": str(path / "configs/config_swinB_224.json")}
    config |= {"use_roberta": False, "text_encoder": "", "text_config": _bert(path, folder, asked["dropout"])}
    return model_pretrain.XVLM(config | {"embed_dim": 256, "temp": 0.07})  # type: ignore[no-any-return]


def _bert(path: Path, folder: Path, dropout: float) -> str:
    config = json.loads((path / "configs/config_bert.json").read_text(encoding="utf-8"))
    config |= {"attention_probs_dropout_prob": dropout, "hidden_dropout_prob": dropout}
    (folder / "bert.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder / "bert.json")


if __name__ == "__main__":
    serve(Official)
