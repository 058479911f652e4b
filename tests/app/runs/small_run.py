"""A run folder as the training command leaves it, made without training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

import campfire_fx
from campfire_fx.app.train.checkpoint import Checkpoint, save
from campfire_fx.app.train.networks import resnet8
from campfire_fx.app.train.outcome import Reloaded, Row

OPTIONS = {"classes": 10, "channels": 1}
SPARSE = {"regime": "combined", "sparsity": 0.6, "era": (1, 3)}
SHAPE = (1, 1, 16, 16)


def row(name: str, right: int, parameters: int, nonzero: int, macs: int, latency: float, size: int) -> Row:
    return Row(
        name=name, right=right, images=449, parameters=parameters, nonzero=nonzero, macs=macs, latency_ms=latency,
        bytes=size,
    )  # fmt: skip


ROWS = (
    row("dense", 440, 77_754, 77_754, 3_000_000, 5.2, 323_000),
    row("sparse", 437, 77_754, 31_000, 3_000_000, 5.1, 323_000),
    row("slim", 437, 51_543, 30_000, 2_000_000, 4.8, 218_000),
    row("slim from scratch", 431, 51_543, 51_543, 2_000_000, 4.7, 218_000),
)
LOG = """\
network,epoch,loss,valid,seconds,rate,target,sparsity
dense,0,2.25,0.25,1.5,0.1,,
dense,1,1.5,0.5,1.5,0.1,,
sparse,0,2.25,0.25,2.0,0.1,0.0,0.0
sparse,1,1.75,0.375,2.0,0.1,0.0,0.0
sparse,2,1.25,0.5,2.0,0.1,0.5,0.5625
"""
SETTINGS = {"data": "digits", "model": "resnet8", "image_size": None, "residual": "union", "recipe": {"epochs": 5}}


def sparse_network() -> campfire_fx.SparseModel:
    torch.manual_seed(0)
    sparse = campfire_fx.sparsify(resnet8(**OPTIONS), example_inputs=torch.zeros(SHAPE), **SPARSE).finalize()
    mask = torch.ones_like(sparse.layer1[0].conv1.mask)
    mask[:5] = False
    sparse.set_mask("layer1.0.conv1", mask)  # so that channels are dead
    return sparse.eval()


def make_run(folder: Path, *, finished: bool = True) -> Path:
    """Write dense.ckpt, sparse.ckpt, log.csv, and of a finished run results.json."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    dense = resnet8(**OPTIONS)
    save(Checkpoint("resnet8", OPTIONS, SHAPE, None, dense.state_dict()), folder / "dense.ckpt")
    save(Checkpoint("resnet8", OPTIONS, SHAPE, SPARSE, sparse_network().state_dict()), folder / "sparse.ckpt")
    (folder / "log.csv").write_text(LOG)
    if finished:
        rows = [dataclasses.asdict(row) | {"accuracy": row.accuracy} for row in ROWS]
        reloaded = [dataclasses.asdict(Reloaded("slim.pt2", 300_000, 2e-7, 449, 449))]
        results = {"rows": rows, "reloaded": reloaded, "settings": SETTINGS}
        (folder / "results.json").write_text(json.dumps(results))
    return folder
