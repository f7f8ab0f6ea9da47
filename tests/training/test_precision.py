import lightning.pytorch as pl
import pytest
import torch

from relpretrain.errors import ConfigError
from relpretrain.training.precision import check_precision
from tests.training.standin import loader, module


def fit(precision):
    trainer = pl.Trainer(
        accelerator="cpu", precision=precision, max_steps=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = module()
    trainer.fit(model, loader())
    assert trainer.global_step == 3
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32", "32-true", "bf16", "bf16-mixed", "16", "16-mixed"])
def test_precisions_with_weights_in_fp32_are_served(precision):
    check_precision(precision)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in fit(precision).parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("precision", "remedy"),
    [("bf16-true", "bf16-mixed"), ("16-true", "16-mixed"), ("64-true", "32-true"), (64, "32-true")],
)
def test_others_are_refused_before_training_with_the_remedy(precision, remedy):
    with pytest.raises(ConfigError, match=rf"^trainer\.precision={precision}.* is not served.*precision={remedy}$"):
        fit(precision)


@pytest.mark.parametrize("precision", ["transformer-engine", "transformer-engine-float16"])
def test_those_that_need_a_package_are_refused_without_it(precision):
    with pytest.raises(ConfigError, match=f"precision={precision} is not served"):
        check_precision(precision)
