"""Small networks, one hazard each, with what must come out of a shrink. `CASES` holds them all by name."""

from __future__ import annotations

from tests.nets import activations as activations
from tests.nets import attention as attention
from tests.nets import barriers as barriers
from tests.nets import constants as constants
from tests.nets import flattening as flattening
from tests.nets import functional as functional
from tests.nets import group_norms as group_norms
from tests.nets import grouping as grouping
from tests.nets import joins as joins
from tests.nets import layers as layers
from tests.nets import movement as movement
from tests.nets import plain as plain
from tests.nets import ports as ports
from tests.nets import residuals as residuals
from tests.nets import sharing as sharing
from tests.nets import steered as steered
from tests.nets import tables as tables
from tests.nets import weights as weights
from tests.nets import writes as writes
from tests.nets.case import CASES as CASES
from tests.nets.case import Case as Case
