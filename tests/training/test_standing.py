"""What a report says of a training whose masks are not what was asked for, and of zeros that make nothing smaller."""

from __future__ import annotations

import pytest
from torch.optim import SGD

from campfire_fx.analysis.plan import ShrinkPlan
from campfire_fx.sparsity import find_regimes
from campfire_fx.training.model import SparseModel
from tests.sparse_training import batches, sparse, train

NEVER = "the schedule never began: neither attach(optimizer, steps_per_epoch=...) nor epoch(e) was called"
TODO = "Train to the end of the era, or call finalize() to prune at once."
COUNTED = "the schedule has come to epoch {}, and the era ends with epoch 4"
FINALIZED = "finalize() made the masks final in epoch {}, before the era (1 to 4) was over."
AT_ONCE = "finalize() pruned at once: attach, step and epoch were never called before it."
STUCK = (
    "the schedule is in epoch 0 after 2 optimizer steps: attach was given no steps_per_epoch, and epoch(e) was not"
    " called as epochs began"
)


def attached(steps_per_epoch: int | None, steps: int) -> SparseModel:
    model = sparse(era=(1, 4))
    optimizer = SGD(model.parameters(), 0.05)
    model.attach(optimizer, steps_per_epoch)
    for _ in train(model, optimizer, batches(steps)):
        pass
    return model


def in_epoch(epoch: int) -> SparseModel:
    model = sparse(era=(1, 4))
    model.epoch(epoch)
    return model


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: sparse(era=(1, 4)), f"Masks are not final: {NEVER}. {TODO}"),
        (lambda: attached(None, 2), f"Masks are not final: {STUCK}. {TODO}"),
        (lambda: attached(1, 3), f"Masks are not final: {COUNTED.format(3)}. {TODO}"),
        (lambda: in_epoch(2), f"Masks are not final: {COUNTED.format(2)}. {TODO}"),
        (lambda: in_epoch(2).finalize(), FINALIZED.format(2)),
        (lambda: sparse("swat-u", era=(1, 4)).finalize(), AT_ONCE),
        (lambda: attached(None, 2).finalize(), FINALIZED.format(0)),
        (lambda: in_epoch(4), ""),
    ],
    ids=["never", "not counted", "counted", "by hand", "finalized", "at once", "finalized in epoch 0", "over"],
)
def test_how_far_the_schedule_came_is_said(model, told: str, caplog: pytest.LogCaptureFixture) -> None:
    network = model()
    assert network.sparsity().standing == told
    slim = network.eval().shrink(verify=False)
    assert (told in slim.plan.remarks) == bool(told) and ShrinkPlan.from_json(slim.plan.to_json()) == slim.plan
    assert told in " ".join(str(slim.report()).split())
    assert ("shrink: Masks are not final" in caplog.text) == told.startswith("Masks"), "and it is warned of"


def test_weights_that_train_under_masks_are_said() -> None:
    model = sparse("swat-u", era=(1, 4))
    model.epoch(5)
    assert model.sparsity().standing == "Masks are not final: weights under them train until finalize() is called."


def test_a_schedule_that_never_began_is_in_the_report_of_the_sparse_model() -> None:
    assert NEVER in " ".join(str(sparse().report()).split())
    assert "never began" not in str(in_epoch(2).report()) + str(sparse().finalize().report())


def test_where_no_channel_died_the_regimes_that_remove_channels_are_named() -> None:
    shown = " ".join(str(sparse("unstructured", sparsity=0.2).finalize().eval().shrink(verify=False).report()).split())
    names = [entry.name for entry in find_regimes() if entry.gains == "channels"]
    assert "channel" in names and "combined" not in names
    assert "Nothing became smaller: no channel is dead. Regimes that train whole channels to zero" in shown
    assert f"so that shrink removes them: {', '.join(names)}." in shown
    assert "What regime 'unstructured' is for: hardware and libraries that skip single zeros." in shown
    smaller = str(sparse("filter", sparsity=0.5).finalize().eval().shrink(verify=False).report())
    assert "Regimes that train" not in smaller and "is for:" not in smaller


def test_what_reconfigure_removed_before_is_said() -> None:
    model = sparse("filter", sparsity=0.5, era=(0, 1))
    model.epoch(1)
    shown = " ".join(str(model.reconfigure().eval().shrink(verify=False).report()).split())
    assert "Channels that reconfigure() removed before are not counted here." in shown
    assert "no channel is dead" in shown and "Regimes that train" not in shown
