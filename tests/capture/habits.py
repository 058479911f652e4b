"""Small models, each with a habit of Python that tracers stumble over."""

from __future__ import annotations

import copy
import functools
import math
from collections import OrderedDict
from contextlib import suppress
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn, zeros
from torch.utils import checkpoint as cp


def conv(inputs: int = 3, outputs: int = 4, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **kwargs)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.norm = nn.BatchNorm2d(4)


class BranchOnSize(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if x.shape[2] > 4 and x.size(3) > 4:
            x = F.max_pool2d(x, 2)
        assert x.dim() == 4, f"got {x.dim()} dimensions"
        torch._assert(x.shape[1] == 4, "channels")
        if not x.shape[1] == 4:
            raise ValueError
        return x


class Unpack(Base):
    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = self.conv(x).shape
        y = self.conv(x).reshape(b, c // 2, 2, h, w).transpose(1, 2).flatten(1, 2)
        *lead, last = y.shape
        return y.view(*lead, last).reshape(torch.Size([b, c]) + y.shape[2:])


class SamePadding(Base):
    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pad_h = max((math.ceil(height / 2) - 1) * 2 + 3 - height, 0)
        pad_w = max((ceil(width / 2) - 1) * 2 + 3 - width, 0)
        if pad_h > 0 or pad_w > 0:
            x = F.pad(x, [pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2])
        return F.conv2d(x, self.conv.weight, self.conv.bias, 2)


class IntOfSize(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        side = int(x.shape[2] * 0.5)
        other = int(round(float(x.shape[3]) / 2))
        kinds = (type(side) is int, isinstance(side, int), type(x.shape[0]) == int, isinstance(x.shape[0], float))
        assert kinds == (True, True, True, False)
        x = F.interpolate(x, size=(side, min(other, side) + max(0, other - side)))
        root = int(math.sqrt(x.flatten(2).shape[-1]))
        return x.flatten(2)[:, :, : root * 2]


class SetItems(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).clone()
        y[:, :2] = y[:, 2:] * 2
        out = y.new_zeros(y.shape[0], 4, y.shape[2], y.shape[3])
        for i in range(y.shape[1]):
            out[:, i] = y[:, 3 - i]
        out[:, 0] += 1
        out[..., -1] *= 2
        return out


class Fold(Base):
    def forward(self, x: Tensor) -> Tensor:
        out = []
        for image in self.conv(x).unbind(1):
            out.append(image.mean(-1))
        a, b = torch.split(x, [1, 2], dim=1)
        parts = {"a": a, "b": b}
        parts.update(c=torch.cat([a, b], 1))
        total = sum(value.sum() for key, value in sorted(parts.items()) if key != "c")
        return torch.stack(out, 1) + total + parts.get("d", 0)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


class MakesPair(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x, None)


class Outputs(Base):
    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        pair = MakesPair()(x)
        assert pair.second is None
        result: OrderedDict[str, Any] = OrderedDict()
        result["out"] = pair.first
        result["more"] = [x + 1, (x.mean(), None), {"k": x}]
        values = x.max(dim=1)
        result["max"] = values.values + values.indices
        result["pair"] = Pair(x, x)
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.rnn(x.flatten(2).transpose(1, 2))
        hidden, cell = state
        return self.attention(y, y, y)[0] + hidden[-1][:, None] + cell[0].unsqueeze(1)


class Copies(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = copy.copy(x)
        z = copy.deepcopy(x.shape)
        kept = copy.copy({"x": x})
        return y + kept["x"] * z[1]


class Arguments(Base):
    def forward(self, x: Tensor, *more: Tensor, scale: float = 2.0, mask: Tensor | None = None, **rest: Any) -> Tensor:
        x = self.conv(x) * scale
        for other in more:
            x = x + other.mean()
        if mask is not None:
            x = x * mask
        if rest.get("flip", False):
            x = x.flip(-1)
        return x + sum(value.sum() for value in rest.values() if isinstance(value, Tensor))


class Containers(Base):
    def forward(self, images: list[Tensor], targets: dict[str, Any]) -> list[Tensor]:
        images.append(images[0] * 2)
        assert len(images) == 3 and "extra" in targets and isinstance(images, list)
        x = torch.cat(images, 0)
        return [self.conv(x), *(value + 1 for value in targets.values() if isinstance(value, torch.Tensor))]


class Factories(Base):
    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        ys, xs = torch.meshgrid(torch.arange(h, device=x.device), torch.arange(w), indexing="ij")
        grid = torch.stack((xs, ys)).float()[None].expand(b, -1, -1, -1)
        extra = zeros((b, 1, h, w), dtype=x.dtype) + torch.linspace(0, 1, w) + torch.full((h, 1), 2.0)
        fixed = torch.tensor([1.0, 2.0, 3.0], device=x.device).view(1, 3, 1, 1)
        eye = torch.eye(w, dtype=x.dtype, device=x.device)
        return self.conv((x + fixed) @ eye) + torch.cat((grid, extra, torch.ones_like(extra)), 1)


class RandomOperations(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        keep = torch.rand(x.shape[0], 1, 1, 1) if self.training else torch.ones(1)
        return x * keep + torch.randn_like(x) * self.training


class OwnDropout(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.norm(self.conv(x)), 0.5, self.training)
        return F.dropout2d(x, training=self.training) if self.training else x


class NormAct(nn.BatchNorm2d):
    """A batch norm with its own forward, as zoos write it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                if self.momentum is None:
                    factor = 1.0 / float(self.num_batches_tracked)
        use_batch = self.training or (self.running_mean is None and self.running_var is None)
        x = F.batch_norm(
            x,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            self.weight,
            self.bias,
            use_batch,
            factor,
            self.eps,
        )
        return self.act(self.drop(x))


class StandardConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True, momentum=0.0, eps=1e-6
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ZooStyle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(StandardConv(3, 4, 3, bias=False), NormAct(4))
        self.gamma = nn.Parameter(torch.ones(4))
        self.act = functools.partial(F.leaky_relu, negative_slope=0.2)
        self.pos = nn.Parameter(torch.zeros(1, 36, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if hasattr(self, "nothing") or getattr(self, "fc", None) is not None:
            raise RuntimeError
        b, c, h, w = x.shape
        y = x.flatten(2).transpose(1, 2)
        pos = self.pos
        if y.shape[1] != pos.shape[1]:
            side = int(math.sqrt(pos.shape[1]))
            pos = F.interpolate(pos.reshape(1, side, side, -1).permute(0, 3, 1, 2), size=(h, w)).flatten(2).mT
        y = (y + pos).mT.reshape(b, c, h, w)
        return self.act(y) * self.gamma.view(1, -1, 1, 1)


class StoresState(Base):
    def __init__(self) -> None:
        super().__init__()
        self.features: list[Tensor] = []
        self.cache: dict[Any, Tensor] = {}
        self.helper = Helper()

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.conv(x)
        self.features.clear()
        self.features.append(self.last)
        self.conv.seen = self.last
        key = (x.shape[2], x.shape[3])
        if key not in self.cache:
            self.cache[key] = torch.zeros(1) + x.shape[2]
        self.helper.build(self.features)
        return self.helper(1) + self.features[-1] + self.cache[key]


class Helper:
    def build(self, features: list[Tensor]) -> None:
        self.pyramid = [f * 2 for f in features]

    def __call__(self, factor: int) -> Tensor:
        return self.pyramid[0] * factor


class CountsCalls(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.training:
            self.steps += 1
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))
            self.mean.mul_(2)
        return x + self.mean.view(-1, 1, 1)


class InPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        alias = x
        y = F.relu(x, inplace=True)
        x += 1
        shortcut = alias
        y = y * 2
        y -= shortcut
        z = torch.relu_(y)
        z.mul_(2).add_(y)
        return z + alias + y


class Views(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) * 1
        first = x[:, 0]
        first += 5
        flat = x.view(-1)
        flat.mul_(2)
        return x + first.unsqueeze(1)


class Checkpointed(Base):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = cp.checkpoint(self.conv, x, use_reentrant=False)
            return torch.utils.checkpoint.checkpoint(self.tail, x, use_reentrant=True)
        return self.tail(self.conv(x))

    def tail(self, x: Tensor) -> Tensor:
        return self.norm(x) + 1


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * (s * (1 + x * (1 - s)))


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * torch.tanh(x)


class OwnFunctions(Base):
    def forward(self, x: Tensor) -> Tensor:
        return scripted(Swish.apply(self.conv(x)))


@functools.lru_cache
def cached_grid(height: int, width: int) -> Tensor:
    return torch.ones(height, width) * height


class CachedHelpers(Base):
    def forward(self, x: Tensor) -> Tensor:
        table = {2: 1.0, 3: 2.0, 4: 3.0}
        return self.conv(x) * cached_grid(x.shape[2], x.shape[3]) + table[x.shape[1]]


def kept(function: Any) -> Any:
    """Keep results, behind a wrapper."""
    with_cache = functools.lru_cache(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return with_cache(*args)

    return call


@kept
def grid_behind_a_wrapper(height: int, width: int) -> Tensor:
    return torch.ones(height, width) * width


class CachedMethods(Base):
    @functools.lru_cache  # noqa: B019
    def columns(self, width: int) -> Tensor:
        return torch.arange(width) * 2.0

    @staticmethod
    @functools.lru_cache
    def rows(height: int) -> Tensor:
        return torch.arange(height)[:, None] * 3.0

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return self.conv(x) * self.columns(width) + self.rows(height) * grid_behind_a_wrapper(height, width)


class NumpySizes(Base):
    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = int(np.ceil(height / 7)) * 7
        x = F.pad(self.conv(x), (0, 0, 0, padded - height))
        area = np.prod([padded, width]) / np.prod(x.shape[2:]) + np.floor(width / 4)
        return x.flatten(2).view(-1, 4, padded, width) * (area / np.sqrt(height))


class SizesInPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = x.shape[2]
        double = h
        double *= 2
        double -= h // 2
        parts = list(x.split(1, dim=1))
        same = parts
        same += [x[:, :1]]
        x = torch.cat(parts, 1)[:, :3]
        scale = x.mean()
        kept = scale
        scale += 1
        return self.conv(x) * h + double * kept


class Strings(Base):
    def forward(self, x: Tensor) -> Tensor:
        name = f"conv{'' if x.shape[1] == 3 else x.shape[1]}"
        x = getattr(self, name)(x)
        kind = {"float32": 1, "float64": 2}[str(x.dtype).split(".")[-1]]
        if x.dtype in (torch.float16, torch.bfloat16) or x.device.type == "cuda" or x.is_cuda:
            kind += 10
        equation = "bchw,bdhw->bcd" if x.ndim == 4 else "bcl,bdl->bcd"
        return torch.einsum(equation, x, x) * kind


class Arithmetic(Base):
    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2], x.shape[3]
        quotient, rest = divmod(h, 2)
        area = np.prod([int(h), int(w)])
        hop = round(h / 3) + abs(-w) + pow(2, 1) + math.floor(h / 2) + (h if h % 2 == 0 else w)
        length = len(x) + len(x.shape)
        total = x.numel() + x.nelement() // x.size(0)
        return self.conv(x) * (quotient + rest + hop + total) / length + float(area) * 0


class Dimensions(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        h, w = x.shape[2], x.shape[3]
        shape = tuple(x.shape[:2]) + (h * w,)
        y = x.reshape(*shape).permute(0, 2, 1)
        y = torch.reshape(y, (x.size(0), h, w, -1)).movedim(-1, 1)
        rows = torch.chunk(y, 2, dim=2)
        out = [row.roll(1, 3) for row in rows]
        assert tuple(reversed(x.shape))[0] is not None and 4 in x.shape
        return torch.cat(out, dim=2) + x.T.mT.sum() * 0


class Scripting(Base):
    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting() or torch.jit.is_tracing():
            raise RuntimeError
        if isinstance(x, Tensor) and torch.is_tensor(x) and torch.is_floating_point(x) and x is not None:
            x = self.conv(x)
        features = torch.jit.annotate(list[Tensor], [x, x])
        return torch.cat(features, 1)


class NoGradient(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.conv(x).mean()
        return self.norm(self.conv(x)) * scale


class PlainTensors(Base):
    def __init__(self) -> None:
        super().__init__()
        self.plain = torch.arange(4.0).view(1, 4, 1, 1)
        self.listed = [torch.arange(100.0)]
        self.norms = [nn.BatchNorm2d(4)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        scale = self.listed[0][: x.shape[3]] + self.plain.expand(x.shape[0], 4, 1, 1)
        return nn.Softmax(dim=1)(x * scale)


class Flags(Base):
    def forward(self, x: Tensor, return_features: bool = False, mode: str = "a", scale: int = 1) -> Any:
        features = self.conv(x)
        out = features.mean((2, 3)) * scale if mode == "b" else features
        return (out, features) if return_features else out


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 3)
        self.second = self.first
        self.block = nn.Sequential(self.first, nn.ReLU())
        self.unused = nn.Linear(2, 2)
        self.free = nn.Parameter(torch.zeros(2))
        self.register_buffer("temporary", torch.ones(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.block(self.first(x))) * self.temporary


class Hooked(Base):
    """Hooks on leaves run with the leaf; hooks on blocks become part of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(conv(4, 4), nn.ReLU())
        self.block.register_forward_hook(lambda module, inputs, output: output + inputs[0])
        self.conv.register_forward_hook(lambda module, inputs, output: output * 2)
        nn.utils.prune.l1_unstructured(self.conv, "weight", 0.5) if hasattr(nn.utils, "prune") else None

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.conv(x))


class Parametrised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(conv())
        self.old = nn.utils.spectral_norm(conv(4, 4)).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@torch.fx.wrap
def kept_whole(x: Tensor, factor: int) -> Tensor:
    return x * factor if x.shape[0] > 1 else x


@torch.fx.wrap
def seen_through(x: Tensor, p: float, training: bool) -> Tensor:
    return x if not training or p == 0 else x * torch.rand(x.shape[0], 1, 1, 1)


class Wrapped(Base):
    def forward(self, x: Tensor) -> Tensor:
        return kept_whole(seen_through(self.conv(x), 0.5, self.training), 3)


class Late(Base):
    """Keyword-only, and an argument with a default between others."""

    def forward(self, x: Tensor, scale: float = 1.0, y: Tensor | None = None, *, z: Tensor) -> Tensor:
        return self.conv(x) * scale + (0 if y is None else y.mean()) + z.mean()


class PoolOfSize(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        pooled = F.avg_pool2d(x, x.size()[2:]) + F.avg_pool2d(x, kernel_size=x.shape[-2])[..., :1, :1]
        swapped = torch.cat(x.chunk(2, 1)[::-1], 1) + torch.stack(x.unbind(1), 1) + torch.cat(x.split(1, 1), dim=1)
        return swapped * pooled + x[:, [3, 2, 1, 0]] + x[..., None].squeeze(-1)


class DropPath(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0.0 or not self.training:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = x.new_empty(shape).bernoulli_(1 - self.p)
        mask.div_(1 - self.p)
        return x * mask


class ZooBlocks(Base):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({"a": conv(4, 4), "b": nn.Sequential(conv(4, 4), DropPath(0.5))})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1) * 2)])
        self.table = nn.ParameterDict({"t": nn.Parameter(torch.ones(4, 1, 1))})
        self.forward_block = self.blocks["a"].forward

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for scale, (name, block) in zip(self.scales, self.blocks.items()):  # noqa: B905
            x = x + block(x) * scale if name == "a" else block(x) * scale
        eps = torch.finfo(x.dtype).eps
        x = x / (x.norm(dim=1, keepdim=True) + eps) + self.table["t"].type_as(x)
        return self.forward_block(x) / np.sqrt(x.shape[1]) * math.prod(x.shape[2:])


class Autocast(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(device_type=x.device.type, enabled=False):
            y = self.norm(self.conv(x.float()))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = self.conv(x)
            with torch.autocast("cpu", enabled=False):
                z = self.conv(x + z.float().mean())
        return y + z


class Loop(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        h = x.shape[2]
        while h > 4:
            x, h = F.max_pool2d(x, 2), h // 2
        if all(size % 2 == 0 for size in x.shape[-2:]) or max(x.shape[-2:]) > 100 or x.shape[1] in (7, 9):
            x = x * 2
        return x[torch.arange(x.shape[0]).flip(0)]


class Answer(NamedTuple):
    logits: Tensor
    extra: dict[str, Tensor]


class Decorated(Base):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Answer:
        y = self.conv.forward(x)
        return Answer(logits=y, extra={"k": self._scaled(x, *[2, 3])})

    def _scaled(self, x: Tensor, *factors: int) -> Tensor:
        return functools.reduce(lambda a, b: a * b, factors, x)


class Legacy(Base):
    def forward(self, x: Tensor) -> Tensor:
        size = torch.as_tensor(x.shape[2:])
        weights = torch.as_tensor(np.ones(4, dtype=np.float32)).view(1, 4, 1, 1)
        batch, *_ = x.size()
        x = self.conv(x) * weights
        index = torch.LongTensor([0, 1])
        return x[index].sum() + x.view(batch, -1).sum(1) * size.sum()


class Unregistered(Base):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = [conv(4, 4)]
        self.order = [self.norm, nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden[0](self.conv(x))
        for layer in self.order:
            x = layer(x)
        return nn.Hardswish()(x)


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.DataParallel(ZooStyle())
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.inner(x).flatten(2).mT)


class AskedInJit(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if torch.jit.isinstance(y, Tensor) and torch.jit.isinstance([x, y], list[Tensor]):
            y = torch.cat([y, y.relu()], 1)
        if torch.jit.isinstance(y, int) or torch.jit.isinstance({"y": y}, dict[str, int]):
            raise TypeError
        return y * 2 if torch.jit.isinstance(x.shape[1], int) else y


@torch.compiler.disable
def told_by_type(x: Tensor) -> Tensor:
    return x * 2 if "Tensor" in type(x).__name__ else x


class AsksForTypes(Base):
    """`type` itself is a name that code asks with, asks for, and reads from; so are the types that it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LayerNorm(4)
        self.act: Any = nn.ReLU

    def forward(self, x: Tensor) -> Tensor:
        act = self.act() if isinstance(self.act, type) and not isinstance(x, type) else self.act
        x = self.layer(act(self.conv(x)).movedim(1, -1)).movedim(-1, 1)
        assert type(x) is Tensor and type(x.shape) is torch.Size and type(x.shape[0]) is int and type(nn.ReLU) is type
        made = type("Made", (), {"factor": 3})
        assert int.from_bytes(b"a", "big") == 97 and float.fromhex("0x1p0") == 1
        return torch.true_divide(told_by_type(x), 2) * made.factor


class Named(type):
    """A metaclass; `Helped` is within reach of a forward."""


class Helped(metaclass=Named):
    pass


class WithMetaclass(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if isinstance(Helped, Named) and type(Helped) is Named else x


def squared(x: Any) -> Any:
    return x * x if isinstance(x, Tensor) else x


class Tabled:
    def __call__(self, x: Any) -> Any:
        return x + 1 if isinstance(x, Tensor) else x


TABLE = {"squared": squared, "tabled": Tabled()}


class FunctionsInTables(Base):
    def forward(self, x: Tensor) -> Tensor:
        from tests.capture.checks import doubled

        x = self.conv(x)
        for name in ("squared", "tabled"):
            x = TABLE[name](x)
        return doubled(x)


class Pads(nn.Module):
    """Blocks that take lengths beside the values, and blocks that do not."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x if lengths is None else x * lengths


class FailsAndGoesOn(Base):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.PReLU(), Pads(), nn.MaxPool2d(2)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        for layer in self.layers:
            try:
                y = layer(y, lengths=None)
            except TypeError:
                y = layer(y)
        try:
            y = torch.cat([y, x], 1)
        except (RuntimeError, ValueError):
            y = torch.cat([y, F.interpolate(x, scale_factor=0.5)], 1)
        try:
            z = y.unflatten(1, (2, -1))[:, 5]
        except:  # noqa: E722
            z = y.view(y.shape[0], 1, *y.shape[1:])[:, 0]
        z = self.tail(z)
        with suppress(RuntimeError):
            z = z + z.new_zeros(3, 1, 7)
        return z

    def tail(self, x: Tensor) -> Tensor:
        parts = x.split(2, 1)
        try:
            return parts[7]
        except IndexError:
            return parts[0].mul(2)


class NumpyArrays(Base):
    def __init__(self) -> None:
        super().__init__()
        self.mean = np.linspace(0, 1, 3, dtype=np.float32).reshape(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv((x - torch.from_numpy(self.mean)) / np.float32(2))
        x = x[:, np.array([0, 1, 3, 2])] + torch.tensor(np.ones((4, 1, 1)), dtype=x.dtype, device=x.device)
        return np.float64(3) * x


class RepeatsLists(Base):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        queries = [self.query] * x.size(0)
        rows = x.shape[2] * [x.mean((1, 2))] + [x.amax((1, 2))]
        return self.conv(x) + torch.cat(queries, 0) + torch.stack(rows).sum(0)[:, None, None]


class ChangesLists(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        parts = [x[:, :1]] * x.shape[1]
        same = parts
        parts.append(x[:, 1:2])
        same += [x * 2, x * 3]
        parts[0] = x[:, 3:]
        del parts[1]
        assert parts is same and len(parts) == 6 and len(same) == 6
        return torch.cat(parts, 1) + sum(part.mean() for part in same)


class HooksItsPartsAtFirst(Base):
    """The first call puts hooks on a part, which collect what it gives; a flag says that they are there."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(conv(4, 4), nn.ReLU())
        self.collected: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.collected.clear()
        if not hasattr(self, "is_hooked"):
            self.part.register_forward_hook(self.collect)
            self.is_hooked = True
        x = self.part(self.part(self.conv(x)))
        return torch.cat(self.collected, 1) + x[:, :1]

    def collect(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.collected.append(output)
