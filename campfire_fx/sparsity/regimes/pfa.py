"""Principal Filter Analysis (Suau et al. 2018): as many channels as responses have principal directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from campfire_fx.base.errors import RegimeError
from campfire_fx.base.numbers import plain
from campfire_fx.sparsity.channels.choice import GLOBAL
from campfire_fx.sparsity.channels.coupling import CoupledLayer, Floats
from campfire_fx.sparsity.channels.gathering import as_maps
from campfire_fx.sparsity.coupled_channels import channels
from campfire_fx.sparsity.entry import RegimeEntry
from campfire_fx.sparsity.gram_channels import GramChannels, columns_of
from campfire_fx.sparsity.layer import PrunedLayer
from campfire_fx.sparsity.regime import Regime
from campfire_fx.sparsity.schedule import Constant

_NONE = 1e-9  # energies and differences below it are rounding


def analysed(covariance: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the shares of eigenvalues in their sum, the largest first, and the places of groups: 0 stays longest.

    Inactive ones, which respond to nothing, have places from n up. Of the others next goes that whose |correlations|
    with those that are left have the largest sum; of equal ones that with the largest single one, then the first.
    """
    variance = np.diag(covariance)
    left = variance >= 1e-8 * variance.max()
    found = len(left) + np.arange(len(left))[::-1]
    correlation = np.abs(covariance) / np.sqrt(np.outer(*[np.where(left, variance, 1.0)] * 2))
    np.fill_diagonal(correlation, 0.0)
    sums = (correlation * left).sum(1)
    for place in range(int(left.sum()) - 1, -1, -1):
        most = np.flatnonzero(left & (sums >= sums[left].max() - _NONE))
        peaks = correlation[np.ix_(most, left)].max(1)
        goes = most[np.flatnonzero(peaks >= peaks.max() - _NONE)[0]]
        found[goes], left[goes] = place, False
        sums -= correlation[:, goes]
    values = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0)
    return values / values.sum(), found


def by_energy(covariance: Floats) -> Floats:
    """Score a group by the share of energy lost with it and all that go before it: 1 - (l_1 + ... + l_place)."""
    shares, place = analysed(covariance)
    lost = np.maximum(1 - np.cumsum(shares) + shares, 0.0)[np.minimum(place, len(place) - 1)]
    return lost + 1e-15 * (2 * len(place) - place)  # where no energy is left, the order still counts


def by_entropy(covariance: Floats) -> Floats:
    """Score groups above 0 that stay: n * (1 - KL / ln n) of them, KL of the spectrum from the uniform distribution."""
    shares, place = analysed(covariance)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum()  # ln n - KL
    return max(1.0, len(place) * entropy / np.log(max(len(place), 2))) - _NONE - place


@dataclass(frozen=True, slots=True)
class PrincipalFilters(GramChannels):
    """Channels go whose responses are the most correlated with those of others."""

    name = "principal filter analysis"
    orders = {"energy": by_energy, "entropy": by_entropy}  # noqa: RUF012 - see the base
    order: str = "energy"

    def gram(self, layer: PrunedLayer, coupled: CoupledLayer, inputs: Tensor) -> Tensor:
        """See the base: of responses, the maxima over space for each image; the last row is of ones: their sums."""
        peaks = as_maps(layer, inputs).double().amax((2, 3))
        columns = torch.from_numpy(columns_of(coupled)).to(peaks.device).expand(peaks.shape)
        found = peaks.new_full((len(peaks), int(columns.max()) + 2), -torch.inf)
        found.scatter_reduce_(1, columns % found.shape[1], peaks, "amax")[:, -1] = 1.0
        return found.T @ found

    def of_groups(self, whole: Floats) -> Floats:
        """See the base: the covariance matrix."""
        whole = whole / max(whole[-1, -1], 1.0)
        return (whole - np.outer(whole[-1], whole[-1]))[:-1, :-1]


def pfa(target: Any = None, threshold: float | None = None, at_least: float = 1, round_to: int | None = None) -> Regime:
    """Remove the channels most correlated with others, as many of each set as its responses' spectrum does without.

    Suau et al. 2018, arXiv 1807.10585, PFA-En, and the authors' code: of a layer with the eigenvalues l_1 >= l_2 ... of
    the covariance of its responses (maxima over space), as few channels stay as hold the share 1 - `threshold` of the
    sum. Without it, one share for all layers is chosen so that the share `sparsity` of all channels goes. Channels go
    one by one, next that with the largest sum of |correlations|. Call `gather` first; masks move once.

    Left open: a response is what layers that read the channel are given, after norm and activation, behind an average
    pooling a mean; several readers, and all writers of a residual stream, count as the sum of the readers' covariances.
    A set that never responds stays whole. A `target` in costs weighs energy by what is saved, as `channel` does.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    lost = plain(threshold)
    if lost is not None and (isinstance(lost, bool) or not isinstance(lost, (int, float)) or not 0 <= lost < 1):
        raise RegimeError(f"threshold: {lost!r} is no share of energy. Give what may be lost, from 0 to below 1.")
    wish = {"target": target, "threshold": None if lost is None else max(lost, _NONE), "round_to": round_to}
    return channels("pfa", schedule=Constant, kind=PrincipalFilters, scope=GLOBAL, at_least=at_least, **wish)


def pfa_kl(at_least: float = 1, round_to: int | None = None) -> Regime:
    """Remove channels as `pfa`, in each set all but n * (1 - KL / ln n) of n: no number is asked for, not `sparsity`.

    Suau et al. 2018, arXiv 1807.10585, PFA-KL: KL is the divergence of the eigenvalues, as shares of their sum, from
    the uniform distribution: all stay where responses are uncorrelated, one where they are all the same.

    Raises:
        RegimeError: one of the settings is out of range.
    """
    wish: dict[str, Any] = {"at_least": at_least, "round_to": round_to, "more": {"order": "entropy"}}
    return channels("pfa-kl", schedule=Constant, kind=PrincipalFilters, threshold=0.0, **wish)


_ENERGY = RegimeEntry(
    name="pfa",
    make=pfa,
    does="removes the channels most correlated with others, as many as the spectrum of responses can spare",
    family="channels",
    granularity="coupled channel",
    gains="channels",
    source="Suau et al. 2018, arXiv 1807.10585, PFA-En",
    needs=("data", "epochs after"),
)
_SPARES = "removes the channels most correlated with others; how many follows from the spectrum of responses alone"
_ENTROPY = replace(_ENERGY, name="pfa-kl", make=pfa_kl, does=_SPARES, source=_ENERGY.source[:-2] + "KL")
ENTRIES = (_ENERGY, _ENTROPY)
