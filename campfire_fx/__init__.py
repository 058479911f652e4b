"""Train a CNN structurally sparse, then get back a smaller dense CNN with exactly the same output."""

from __future__ import annotations

from campfire_fx.api import sparsify as sparsify
from campfire_fx.capture import trace as trace
from campfire_fx.channels import dependency_graph as dependency_graph
from campfire_fx.errors import CampfireError as CampfireError
from campfire_fx.errors import CaptureError as CaptureError
from campfire_fx.errors import ExportError as ExportError
from campfire_fx.errors import RegimeError as RegimeError
from campfire_fx.errors import ShrinkError as ShrinkError
from campfire_fx.model import SparseModel as SparseModel
from campfire_fx.slim import shrink as shrink
from campfire_fx.version import __version__ as __version__
