"""Which modules stay whole: those whose class, by being torch's own, says what they compute."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from campfire_fx.base.compat import children_of
from campfire_fx.base.torch_classes import is_torchs_own


def is_leaf(module: nn.Module) -> bool:
    """Return whether `module` is one operation: torch's own forward on torch's own terms.

    A subclass is still a leaf while it adds things and overrides none that forward may use; a module that wraps
    modules of the user's is none.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if is_parametrized(module) or not is_torchs_own(module):
        return False
    return not children_of(module) or all(_inside_torch(child) for child in module.modules())


def _inside_torch(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) or is_torchs_own(module)
