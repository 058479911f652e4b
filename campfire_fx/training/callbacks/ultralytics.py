"""Training of slim models under ultralytics, whose trainers build every model anew from its description."""

from __future__ import annotations

from typing import Any

from torch import nn

from campfire_fx.base.errors import TrainError


def trainer_for(yolo: Any) -> type[Any]:
    """Return the trainer class of a YOLO's task that trains its network as it is, at the widths that it has.

    `yolo.train(trainer=trainer_for(yolo), data=..., epochs=...)`. Without it ultralytics would train the network that
    the description (`yolo.model.yaml`) builds, which is the large one. In one process only.

    Args:
        yolo: `ultralytics.YOLO("slim.pt")`.

    Raises:
        TrainError: when training starts, if the data have another number of classes than the network.
    """
    base: type[Any] = yolo.task_map[yolo.task]["trainer"]
    network: nn.Module = yolo.model

    def get_model(trainer: Any, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:  # noqa: ARG001
        classes, had = trainer.data["nc"], len(network.names)  # type: ignore[arg-type]
        if classes != had:
            raise TrainError(
                f"trainer_for: the data have {classes:,} classes, the network {had:,}. Train on those classes first,"
                " and make the network smaller then."
            )
        return network.requires_grad_(True)

    return type(f"Slim{base.__name__}", (base,), {"get_model": get_model, "__module__": __name__})
