"""Make computed weights plain: masks of torch.nn.utils.prune, weight and spectral norms, parametrizations.

On a private copy of a model. Computations that a model's own code writes out are left to `compute_weights`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from campfire_fx.base.compat import children_of, hooks_before

# Hooks that compute a parameter before each call: how torch itself makes it plain, and what the hook calls its name.
_HOOKS: dict[type, tuple[Callable[[nn.Module, str], Any], str]] = {
    prune.BasePruningMethod: (prune.remove, "_tensor_name"),
    WeightNorm: (remove_weight_norm, "name"),
    SpectralNorm: (remove_spectral_norm, "name"),
}


def bake_reparametrizations(model: nn.Module) -> None:
    """Replace every computed parameter by its present value, in place.

    Exact in evaluation mode: the weights that the model would compute are the weights it gets.
    """
    for module in list(model.modules()):
        for hook in hooks_before(module):
            for kind, (remove, name) in _HOOKS.items():
                if isinstance(hook, kind):
                    remove(module, getattr(hook, name))
        if parametrize.is_parametrized(module):
            _bake_parametrizations(module)


def _bake_parametrizations(module: nn.Module) -> None:
    """Give a module its class and its plain parameters back.

    torch's own `remove_parametrizations` deletes the property from the class, which the original still uses.
    """
    values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}  # type: ignore[union-attr]
    module.__class__ = parametrize.type_before_parametrizations(module)
    del children_of(module)["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))
