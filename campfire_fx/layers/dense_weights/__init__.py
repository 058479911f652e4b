"""Dense master weights: layers that compute with a part of their weight, and train all of it.

What such a layer keeps for its backward pass is stored packed: the non-zero values, and where they are.
"""

from __future__ import annotations

from campfire_fx.layers.dense_weights.layers import MasterLayer, keep_master, release_master
from campfire_fx.layers.dense_weights.relu import PackedReLU, pack_relus, unpack_relus

__all__ = ["MasterLayer", "PackedReLU", "keep_master", "pack_relus", "release_master", "unpack_relus"]
