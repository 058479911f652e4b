"""Hugging Face's own Trainer and Accelerator train sparse, and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from accelerate import Accelerator
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainerCallback, TrainingArguments

from campfire_fx.base.errors import CampfireError
from campfire_fx.layers.masked import MaskedLayer
from campfire_fx.training.callbacks.transformers import SparseTraining
from campfire_fx.training.sparsify import sparsify
from tests.sparse_training import assert_same_state, batches, sparse

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = [{"pixel_values": image, "labels": label} for x, y in batches(3) for image, label in zip(x, y, strict=True)]


class Classifier(nn.Module):
    """What the Trainer wants: a dict with the loss."""

    def __init__(self, *regime: Any, **settings: Any) -> None:
        super().__init__()
        self.net = sparse(*regime, **settings)

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(pixel_values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Look(TrainerCallback):
    """Looks after every step for what should be zero, and stops the run if told to."""

    def __init__(self, stop: int | None = None) -> None:
        self._stop = stop

    def on_step_end(self, _args: Any, state: Any, control: Any, **seen: Any) -> None:
        for module in seen["model"].modules():
            if isinstance(module, MaskedLayer):  # gradients are gone already
                values = [module.weight, *seen["optimizer"].state[module.weight].values()]
                assert not any(v[~module.mask].any() for v in values if v.shape == module.mask.shape)
        control.should_save = control.should_training_stop = state.global_step == self._stop


def trainer(
    folder: Path,
    model: nn.Module,
    stop: int | None = None,
    loss: Any = None,
    callback: SparseTraining | None = None,
    **wishes: Any,
) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=6,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=5,
        **wishes,
    )
    callbacks = [callback or SparseTraining(), Look(stop)]
    return Trainer(model, arguments, train_dataset=DATA, callbacks=callbacks, compute_loss_func=loss)


def test_an_era_that_leaves_no_epoch_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path, Classifier(era=(1, 6)), stop=1).train()
    assert "SparseTraining: the era (1 to 6) is not over before the last of 6 epochs" in caplog.text


def test_the_trainer_trains_sparse_and_a_resumed_run_is_the_run_never_stopped(tmp_path: Path) -> None:
    whole, stopped, resumed = Classifier(), Classifier(), Classifier()
    run = trainer(tmp_path / "whole", whole)
    run.train()
    assert whole.net.sparsity().frozen and whole.net.sparsity().true == pytest.approx(0.7, abs=0.02)
    targets = [row["target_sparsity"] for row in run.state.log_history if "target_sparsity" in row]
    assert targets == pytest.approx([0.7 * (1 - (1 - min(max(e - 1, 0), 3) / 3) ** 3) for e in range(6)])
    trainer(tmp_path / "stopped", stopped, stop=8).train()  # of three steps in an epoch: inside the third
    assert 0 < stopped.net.sparsity().true < 0.6
    trainer(tmp_path / "resumed", resumed).train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-8"))
    assert_same_state(resumed.state_dict(), whole.state_dict())


def test_reconfigured_in_the_era_and_resumed(tmp_path: Path) -> None:
    def new() -> tuple[Classifier, SparseTraining]:
        return Classifier("channel", target={"macs": 0.4}), SparseTraining(reconfigure=True)

    (whole, callback), (stopped, before), (resumed, after) = new(), new(), new()
    given = whole.net
    trainer(tmp_path / "whole", whole, callback=callback).train()
    assert whole.net is not given and weights(whole) < weights(resumed)
    assert whole.net.sparsity().frozen and whole.net.shrink().verification is not None

    trainer(tmp_path / "stopped", stopped, stop=11, callback=before).train()
    assert weights(whole) < weights(stopped) < weights(resumed)
    checkpoint = tmp_path / "stopped" / "checkpoint-11"
    after.resume(resumed, checkpoint)
    assert weights(whole) < weights(resumed) < weights(Classifier())
    trainer(tmp_path / "resumed", resumed, callback=after).train(resume_from_checkpoint=str(checkpoint))
    assert_same_state(resumed.state_dict(), whole.state_dict())


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_what_cannot_be_reconfigured_is_said(tmp_path: Path) -> None:
    callback = SparseTraining(reconfigure=True)
    with pytest.raises(CampfireError, match="is itself the sparse model, and a callback cannot give"):
        trainer(tmp_path, sparse("channel", sparsity=0.5), callback=callback, loss=loss_of).train()
    with pytest.raises(CampfireError, match="there is no campfire_fx_snapshots.pt. Give a checkpoint of a training wi"):
        callback.resume(Classifier(), tmp_path)


def test_a_model_of_theirs(tmp_path: Path) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
    torch.manual_seed(0)
    dense = ResNetForImageClassification(config)
    example = {"pixel_values": torch.zeros(1, 3, 32, 32)}
    model = sparsify(dense, "filter", sparsity=0.5, era=(0, 2), example_inputs=example)
    trainer(tmp_path, model, loss=loss_of, label_names=["labels"]).train()
    assert model.sparsity().frozen and model.sparsity().true == pytest.approx(0.5, abs=0.05)
    slim = model.eval().shrink()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(slim(pixel_values=x)["logits"], model(pixel_values=x)["logits"], rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in dense.parameters())


def loss_of(outputs: Any, labels: Tensor, **_rest: Any) -> Tensor:
    return F.cross_entropy(outputs["logits"], labels)


@pytest.mark.parametrize("first", ["attach", "prepare"])
def test_accelerate_needs_no_callback(first: str) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = sparse()
    optimizer: Any = AdamW(model.parameters(), 1e-2)
    if first == "attach":
        model.attach(optimizer, steps_per_epoch=2)
        prepared, optimizer = accelerator.prepare(model, optimizer)
    else:
        prepared, optimizer = accelerator.prepare(model, optimizer)
        model.attach(optimizer, steps_per_epoch=2)
    for x, y in batches(20):
        with accelerator.accumulate(prepared):
            accelerator.backward(F.cross_entropy(prepared(x), y))
            accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert model.sparsity().epoch == 5 and model.sparsity().true == pytest.approx(0.7, abs=0.02)
