"""Calls that move values about, and questions about them."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.analysis.rules.alone import Act, Fixed, Made, Sample
from tests.analysis.rules.samples.family import Samples, add, both, classes

SAMPLES: Samples = {}
X, Y = Act(), Act()


def _calls(*names: str) -> Any:
    """Enter samples under torch's function and the tensor's method of each name."""
    return lambda *samples: add(SAMPLES, both(*names), *samples)


_calls("reshape")(
    Sample((X, (2, 4, 36)), resize=False),
    Sample((X, (2, -1)), resize=False),
    Sample((X, (-1, 6, 6)), free=4, resize=False),
    Sample((X, (2, 2, 2, 6, 6)), resize=False),
)
add(SAMPLES, ["reshape", "view"], Sample((X, 2, -1), resize=False), Sample((X, 2, 4, -1)))
add(SAMPLES, ["view"], Sample((X, (2, 144)), resize=False), Sample((X, 2, 144), resize=False))
_calls("flatten")(
    Sample(), Sample((X, 1), resize=False), Sample((X, 2)), Sample(kwargs={"start_dim": 2, "end_dim": -1})
)
SAMPLES[torch.flatten][0] = SAMPLES["flatten"][0] = Sample((Act("NC"),), resize=False)
_calls("unflatten")(
    Sample((X, 1, (2, 2))),
    Sample((X, 1, (4, 1))),
    Sample(kwargs={"dim": 1, "sizes": (1, 4)}),
    Sample((X, -1, (3, -1)), constants="all"),
)
_calls("permute")(Sample((X, (0, 2, 3, 1))), Sample((X, (1, 0, 2, 3))))
add(SAMPLES, ["permute"], Sample((X, 0, 2, 3, 1)))
_calls("transpose", "swapaxes", "swapdims", "movedim", "moveaxis")(Sample((X, 1, 2)), Sample((X, -3, -1)))
_calls("t")(Sample((Act("TC"),)))
_calls("adjoint", "fliplr", "flipud")(Sample())
_calls("squeeze")(Sample((Act("NC11"),), resize=False), Sample((Act("NC1W"), 2)), Sample((Act("NC11"), (2, 3))))
_calls("unsqueeze")(Sample((X, 1)), Sample((X, -1)), Sample((Act("C"), 0)))
add(SAMPLES, ["expand"], Sample((Act("NC11"), -1, -1, 5, 5)), Sample((Act("NC11"), (2, 4, 3, 3))))
add(SAMPLES, ["expand"], Sample((Act("1C11"), 3, 4, 5, 5)), Sample((Act("C11"), 2, -1, 7, 7)))
add(SAMPLES, ["expand_as"], Sample((Act("NC11"), X)), Sample((Act("N1HW"), X), constants="any"))
add(SAMPLES, ["view_as", "reshape_as"], Sample((Act("NC1HW"), X)))
add(
    SAMPLES,
    ["view_as", "reshape_as"],
    Sample((Made(torch.ones, (2, 4, 36)), X), free=0, made=0, constants="any", resize=False),
)
_calls("broadcast_to")(Sample((Act("NC11"), (2, 4, 5, 5))))
add(SAMPLES, ["repeat"], Sample((X, 1, 1, 2, 2)), Sample((X, 1, 3, 1, 1)))
_calls("repeat_interleave")(Sample((X, 2, 1)), Sample((X, 2), {"dim": 3}))
_calls("tile")(Sample((X, (1, 2, 1, 1))))
_calls("stack")(Sample(([X, Y], 1), free=8), Sample(((X, Y),), {"dim": -1}, free=8), Sample(([X, X],), free=8))
_calls("hstack", "column_stack")(Sample(([X, Y],), free=8), Sample(([X, Act("NDHW")],), free=10))
_calls("vstack", "dstack")(Sample(([X, Y],), free=8))
_calls("split")(
    Sample((X, 2, 1)),
    Sample((X, [1, 3], 1)),
    Sample((X, 4), {"dim": 2}, resize=False),
    Sample((Act("NDHW"), (2, 4)), {"dim": -3}, free=6),
)
_calls("chunk")(Sample((X, 2, 1)), Sample((X, 3), {"dim": 1}), Sample((X, 2, -1)))
_calls("tensor_split")(Sample((X, 3, 1)), Sample((X, (1, 2), 1)))
_calls("hsplit")(Sample((X, 2)))
_calls("vsplit")(Sample((X, 2)))
_calls("split_with_sizes")(Sample((X, [3, 1], 1)))
_calls("unbind")(Sample((X, 1), stuck=True), Sample((X,)))
_calls("select")(
    Sample((X, 1, 2), made=1),
    Sample((X, -3, -1), made=1),
    Sample((X,), {"dim": 1, "index": 3}, made=1),
    Sample((X, 2, 0)),
)
_calls("narrow", "narrow_copy")(Sample((X, 1, 1, 2), made=2), Sample((X, 2, 1, 3)))
_calls("index_select")(
    Sample((X, 1, Fixed(torch.tensor([3, 0, 0]))), made=2),
    Sample((X, 3, Fixed(torch.tensor([1, 0])))),
)
_calls("roll")(Sample((X, 1, 1)), Sample((X, (1, 2), (2, 3))))
_calls("flip")(Sample((X, [1])), Sample((X, (2, 3))))
_calls("rot90")(Sample((X, 1, (2, 3))))
_calls("pixel_shuffle")(Sample((X, 2), free=4, stuck=True))
_calls("pixel_unshuffle")(Sample((Act("NK66"), 3), free=3, resize=False))
_calls("channel_shuffle")(Sample((X, 2)), Sample((Act("NDHW"), 3), free=6))
add(SAMPLES, ["unfold"], Sample((X, 2, 2, 2)), Sample((X, 1, 2, 1)))
_calls("atleast_1d", "atleast_2d", "atleast_3d")(Sample())
_calls("gather")(Sample((Act("NC"), 1, Fixed(torch.tensor([[0, 2], [0, 2]]))), made=2, resize=False))
_calls("take_along_dim")(Sample((Act("NC"), Fixed(torch.tensor([[0, 2], [0, 2]])), 1), made=2, resize=False))
_calls("diagonal")(Sample((X, 0, 2, 3)), Sample((Act("CC"),), free=16, made=4, stuck=True, resize=False))
add(SAMPLES, [*both("clone", "detach"), "contiguous"], Sample())
add(SAMPLES, ["contiguous", "clone"], Sample(kwargs={"memory_format": torch.channels_last}))
add(
    SAMPLES,
    [operator.getitem],
    Sample((X, (slice(None), slice(1, 3))), made=2),
    Sample((X, (slice(None), slice(None), slice(None, None, 2)))),
    Sample((X, (Ellipsis, 0))),
    Sample((X, (slice(None), 2)), made=1),
    Sample((X, (slice(None), -1, 0)), made=1),
    Sample((X, (slice(None), [2, 0])), made=2),
    Sample((X, (slice(None), Fixed(torch.tensor([2, 0])))), made=2),
    Sample((X, (slice(None), None))),
    Sample((X, 0)),
    Sample((X, (slice(None), slice(None, None, 2))), made=2),
    Sample((X, Act(dtype=torch.bool)), free=0, constants="none", resize=False, runs=False),
)
add(
    SAMPLES,
    [torch.cat, torch.concat, torch.concatenate],
    Sample(([X, Y], 1), free=8),
    Sample(((X, Act("NDHW")),), {"dim": 1}, free=10),
    Sample((), {"tensors": [X, Act("NDHW")], "dim": -3}, free=10),
    Sample(([X, Y], 2), free=8),
    Sample(([X, X],), {"axis": 1}, free=8),
    Sample(([X, Fixed(torch.zeros(2, 3, 6, 6))], 1), made=220, resize=False),
    Sample(([X, Made(torch.full, ((2, 3, 6, 6), 0.5))], 1), made=7, resize=False),
    Sample(([X, Made(torch.rand, ((2, 2, 6, 6),)), Y], 1), free=8, made=10, constants="any", random=True, resize=False),
    Sample(([X, Made(torch.ones, (2, 4, 2, 6))], 2), free=0, constants="any", resize=False),
)
_calls("stack", "hstack", "vstack", "dstack", "column_stack")(
    Sample(([X, Made(torch.ones, (2, 4, 6, 6))],), free=0, constants="any", resize=False)
)

classes(SAMPLES, nn.Identity, (nn.ChannelShuffle, lambda: nn.ChannelShuffle(2)))
classes(SAMPLES, nn.Flatten, (nn.Unflatten, lambda: nn.Unflatten(3, (2, 3))), resize=False)
classes(SAMPLES, (nn.Flatten, lambda: nn.Flatten(2)))
classes(SAMPLES, (nn.PixelShuffle, lambda: nn.PixelShuffle(2)), stuck=True)
classes(SAMPLES, *((nn.Unflatten, lambda sizes=sizes: nn.Unflatten(1, sizes)) for sizes in ((2, 2), (4, 1))))
classes(SAMPLES, (nn.PixelUnshuffle, lambda: nn.PixelUnshuffle(3)))

for _n, _space in {1: "W", 2: "HW", 3: "THW"}.items():
    _x = Act(f"NC{_space}")
    for _kind in ("Reflection", "Replication", "Circular"):
        _pad = getattr(nn, f"{_kind}Pad{_n}d")
        add(SAMPLES, [_pad], Sample((_x,), module=lambda pad=_pad: pad(2)))
    _zero, _constant = getattr(nn, f"ZeroPad{_n}d"), getattr(nn, f"ConstantPad{_n}d")
    add(SAMPLES, [_zero], Sample((_x,), module=lambda pad=_zero: pad(1), constants="zeros"))
    add(SAMPLES, [_constant], Sample((_x,), module=lambda pad=_constant: pad(1, 0.5), constants="any"))
add(SAMPLES, [nn.ZeroPad3d], Sample(module=lambda: nn.ZeroPad3d((0, 0, 0, 0, 1, 2)), made=7, constants="any"))
add(
    SAMPLES,
    [F.pad, torch._C._nn.pad],
    Sample((X, (1, 1)), constants="zeros"),
    Sample((X, (1, 0, 2, 1), "reflect")),
    Sample((X, [0, 0, -1, -2])),
    Sample((X, [0, 0, 0, 0, 1, 2]), made=7, constants="any"),
    Sample((X, [0, 0, 0, 0, 1, 0], "constant", 0.7), made=5, constants="any"),
    Sample(kwargs={"pad": (0, 0, 0, 0, 0, 3), "value": 0.5}, made=7, constants="any"),
    Sample((X, [0, 0, 0, 0, -1, 0]), free=0, constants="any"),
    Sample((X, [0, 0, 0, 0, 0, 0, 0, 1]), constants="zeros"),
    Sample((X, [1, 1]), {"mode": "constant", "value": 0.5}, constants="any"),
)

_ask = {"made": 0, "constants": "any"}
for _name in ("dim", "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_complex", "is_contiguous",
              "storage_offset", "element_size", "get_device", "__len__"):  # fmt: skip
    add(SAMPLES, [_name], Sample(**_ask))
add(SAMPLES, ["size"], Sample(**_ask), Sample((X, 2), **_ask), Sample(kwargs={"dim": 1}, **_ask))
add(SAMPLES, [len, torch.numel, torch.is_floating_point], Sample(**_ask))
add(SAMPLES, ["new_zeros", "new_ones"], Sample((X, (2, 3)), **_ask))
add(SAMPLES, ["new_empty"], Sample((X, (0, 3)), **_ask))  # of no elements, since those would be at random
add(SAMPLES, ["new_full"], Sample((X, (2, 3), 0.5), **_ask))
add(
    SAMPLES,
    [getattr],
    *(Sample((X, name), **_ask) for name in ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad")),
    *(Sample((X, name), **_ask) for name in ("layout", "is_sparse", "is_quantized", "is_mps", "itemsize")),
    Sample((X, "mT")),
    Sample((Act("TC"), "T")),
    Sample((X, "data")),
    Sample((X, "real"), constants="zeros"),
)
add(SAMPLES, [operator.setitem], Sample((X, (slice(None), slice(0, 2)), 0.0), free=0, constants="none", runs=False))
add(SAMPLES, ["copy_"], Sample((X, Y), free=0, constants="none"))
_INDEX = Fixed(torch.tensor([2, 0]))
add(SAMPLES, ["index_copy_", "index_add_"], Sample((X, 1, _INDEX, Act("NGHW")), free=0, constants="none"))
add(
    SAMPLES,
    ["scatter_"],
    Sample((Act("NC"), 1, Fixed(torch.tensor([[0], [2]])), 1.0), free=0, constants="none", resize=False),
)
add(SAMPLES, [torch._assert], Sample((True, "never said"), free=0, constants="any"))
add(SAMPLES, [print], Sample(("",), {"end": ""}, free=0, constants="any"))
