"""Lightning's own Trainer trains sparse, and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader

pytest.importorskip("lightning")

from lightning.pytorch import LightningModule, Trainer

from campfire_fx.training.callbacks.lightning import SparseTraining
from tests.sparse_training import Net, assert_same_state, assert_zero_under_masks, batches, sparse

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice: on workers, on log intervals
DATA = DataLoader(batches(3), batch_size=None)  # type: ignore[var-annotated, arg-type]


class Classifier(LightningModule):
    """What a user writes; after every batch it looks for what should be zero."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.targets: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_batch_end(self, *_rest: Any) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, Optimizer)
        assert_zero_under_masks(self.net, optimizer)
        self.targets.append(self.net.sparsity().target)

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.net.parameters(), 1e-2)


def trainer(folder: Path, epochs: int, reconfigure: bool = False, **wishes: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        callbacks=[SparseTraining(reconfigure=reconfigure)],
        gradient_clip_val=1.0,
        **quiet,
        **wishes,
    )


def test_an_era_that_leaves_no_epoch_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path, 1).fit(Classifier(sparse()), DATA)
    assert "SparseTraining: the era (1 to 4) is not over before the last of 1 epochs" in caplog.text


def test_it_trains_sparse_and_a_resumed_run_is_the_run_never_stopped(tmp_path: Path) -> None:
    whole = Classifier(sparse())
    run = trainer(tmp_path, 6)
    run.fit(whole, DATA)
    assert whole.net.sparsity().frozen and whole.net.sparsity().true == pytest.approx(0.7, abs=0.02)
    expected = [0.7 * (1 - (1 - min(max(epoch - 1, 0), 3) / 3) ** 3) for epoch in range(6) for _ in DATA]
    assert whole.targets == pytest.approx(expected)

    assert float(run.callback_metrics["target_sparsity"]) == pytest.approx(0.7)
    assert float(run.callback_metrics["sparsity"]) == pytest.approx(whole.net.sparsity().true)

    stopped, resumed = Classifier(sparse()), Classifier(sparse())
    first = trainer(tmp_path, 3)
    first.fit(stopped, DATA)
    first.save_checkpoint(tmp_path / "mid-era.ckpt")
    assert 0 < stopped.net.sparsity().true < 0.6
    trainer(tmp_path, 6).fit(resumed, DATA, ckpt_path=tmp_path / "mid-era.ckpt")
    assert_same_state(resumed.state_dict(), whole.state_dict())


def shrinking() -> Any:
    return sparse("channel", target={"macs": 0.4})


def test_reconfigured_in_the_era_and_resumed(tmp_path: Path) -> None:
    whole, stopped, resumed = Classifier(shrinking()), Classifier(shrinking()), Classifier(shrinking())
    given = whole.net
    trainer(tmp_path, 6, reconfigure=True).fit(whole, DATA)
    assert whole.net is not given and weights(whole) < weights(stopped)
    assert whole.net.sparsity().frozen and whole.net.shrink().verification is not None

    first = trainer(tmp_path, 4, reconfigure=True)
    first.fit(stopped, DATA)
    assert weights(whole) < weights(stopped) < weights(resumed)
    first.save_checkpoint(tmp_path / "smaller.ckpt")
    trainer(tmp_path, 6, reconfigure=True).fit(resumed, DATA, ckpt_path=tmp_path / "smaller.ckpt")
    assert_same_state(resumed.state_dict(), whole.state_dict())


def weights(module: LightningModule) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_accumulated_gradients_in_bf16(tmp_path: Path) -> None:
    model = Classifier(sparse())
    trainer(tmp_path, 5, accumulate_grad_batches=2, precision="bf16-mixed").fit(model, DATA)
    assert model.net.sparsity().frozen and model.net.shrink().verification is not None


def test_a_dense_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="SparseTraining: the Classifier holds no sparse model"):
        trainer(tmp_path, 1).fit(Classifier(Net()), DATA)
