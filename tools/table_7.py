"""Table 7 of the Campfire paper (arXiv 2001.03253): the methods that it compares itself with, in its own words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A method.

    Attributes:
        method: its name there.
        columns: what the paper says of it: focus (T: training, C: compression), whether it requires regularisation,
            the era of pruning, the era with a strict budget of parameters, and the granularity.
        arxiv: the numbers of its papers; a regime with one of them in its source is this method.
        lacks: what would have to be built, where no regime is this method.
        also: regimes that are this method though their source is another paper.
    """

    method: str
    columns: tuple[str, str, str, str, str]
    arxiv: tuple[str, ...]
    lacks: str = ""
    also: tuple[str, ...] = ()


_NAME = "a regime by name; its penalty is there"

TABLE_7 = (
    Row("Window (Campfire)", ("T", "no", "beginning", "after pruning", "non-zeros in a window"), (), "", ("window",)),
    Row("CK, combined (Campfire)", ("T", "no", "middle", "after pruning", "kernel"), (), "", ("ck", "combined")),
    Row("Evolutionary (SET)", ("T", "no", "beginning", "throughout", "unstructured"), ("1707.04780",)),
    Row("Zhu and Gupta", ("T", "no", "throughout", "after pruning", "unstructured"), ("1710.01878",)),
    Row("Lottery Ticket", ("T", "no", "throughout", "throughout", "unstructured"), ("1803.03635",), "rewinding"),
    Row("RNN pruning", ("T", "no", "beginning", "none", "unstructured"), ("1704.05119",), "recurrent layers"),
    Row(
        "NeST",
        ("T", "no", "throughout", "none", "unstructured"),
        ("1711.02017",),
        "growth from a small seed; no code of its authors was found",
    ),
    Row(
        "Variational dropout", ("T", "no", "throughout", "none", "unstructured"), ("1701.05369",), "stochastic weights"
    ),
    Row("PruneTrain", ("T", "yes", "throughout", "after pruning", "layer, channel"), ("1901.09290",)),
    Row(
        "Dynamic sparse reparameterization",
        ("T", "yes", "throughout", "throughout", "unstructured, kernel"),
        ("1902.05967",),
        "an exchange across layers",
    ),
    Row("DeepR", ("T", "yes", "throughout", "throughout", "unstructured"), ("1711.05136",)),
    Row(
        "Deep Compression (pruning)",
        ("C", "no", "throughout", "-", "unstructured"),
        ("1506.02626", "1510.00149"),
        "a schedule of its own",
    ),
    Row("L1-norm channels", ("C", "yes", "throughout", "-", "channel"), ("1608.08710",), "scores by layer"),
    Row("Group-wise brain damage", ("C", "yes", "end", "-", "unstructured"), ("1506.02515",), _NAME),
    Row(
        "Sparsity granularity",
        ("C", "yes", "throughout", "-", "unstructured"),
        ("1705.08922",),
        "",
        ("unstructured", "ck", "filter"),
    ),
    Row("SSL", ("C", "yes", "throughout", "-", "channel, kernel, layer"), ("1608.03665",)),
    Row("ThiNet", ("C", "yes", "end", "-", "channel"), ("1707.06342",)),
    Row("LASSO regression", ("C", "yes", "end", "-", "channel"), ("1707.06168",)),
    Row("Network slimming", ("C", "yes", "throughout", "-", "channel"), ("1708.06519",)),
    Row("Sparse structure selection", ("C", "yes", "throughout", "-", "layer"), ("1707.01213",)),
    Row("Principal filter analysis", ("C", "yes", "throughout", "-", "channel"), ("1807.10585",)),
)
