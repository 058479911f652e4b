"""The errors of campfire_fx: each names the place, says what was wrong, and what to do."""

from __future__ import annotations


class CampfireError(Exception):
    """Base of every error that campfire_fx raises on purpose."""


class CaptureError(CampfireError):
    """The model could not be captured as a graph."""


class RegimeError(CampfireError):
    """A sparsity regime, its numbers, or a mask does not fit."""


class ShrinkError(CampfireError):
    """Shrinking could not be done, or could not be proven exact. The model given is unchanged."""


class PassError(CampfireError):
    """A pass over graphs does not keep its word: a fault of its author's, and not of the model."""


class ExportError(CampfireError):
    """A model could not be written, or a file could not be read back."""


class TrainError(CampfireError):
    """The training command was given data, a setting or a checkpoint that it cannot work with."""


class AttackError(CampfireError):
    """An attack was given numbers, images or a network that it cannot work with."""


class ReportError(CampfireError):
    """A picture or a report could not be made."""


class CostError(CampfireError):
    """A cost model was given numbers that it cannot work with."""


class BenchError(CampfireError):
    """Files and models cannot be timed side by side."""


class KernelError(CampfireError):
    """The kernels that skip zeros cannot be built, or cannot compute what they were given."""


class AccelerateError(CampfireError):
    """A model could not be accelerated, or an accelerated one is to do what it cannot. The model given is unchanged."""
