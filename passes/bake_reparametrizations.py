"""Make computed weights plain: masks of torch.nn.utils.prune and parametrizations, on a private copy of a model."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize, prune


def bake_reparametrizations(model: nn.Module) -> None:
    """Replace every computed parameter by its present value, in place.

    Exact in evaluation mode: the weights that the model would compute are the weights it gets.
    """
    for module in list(model.modules()):
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)
        if parametrize.is_parametrized(module):
            _bake_parametrizations(module)


def _bake_parametrizations(module: nn.Module) -> None:
    """Give a module its class and its plain parameters back.

    torch's own `remove_parametrizations` deletes the property from the class, which the original still uses.
    """
    values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}  # type: ignore[union-attr]
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))
