"""What sparsity saves: operations per layer, in inference and in training, and time."""

from campfire_fx.cost.densities import Density as Density
from campfire_fx.cost.densities import mask_densities as mask_densities
from campfire_fx.cost.densities import swat_densities as swat_densities
from campfire_fx.cost.flops import FlopCount as FlopCount
from campfire_fx.cost.flops import LayerFlops as LayerFlops
from campfire_fx.cost.flops import count_flops as count_flops
from campfire_fx.cost.latency_record import LatencyTable as LatencyTable
from campfire_fx.cost.layers import Layer as Layer
from campfire_fx.cost.layers import Work as Work
from campfire_fx.cost.layers import work_of as work_of
