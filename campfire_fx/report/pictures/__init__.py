"""Pictures of sparse training and of what came of it: each function returns a matplotlib Figure; `save` writes it.

They need matplotlib (the extra `plot`), keep no state, and never touch pyplot: any thread and any
machine without a screen can draw.
"""

from typing import TYPE_CHECKING

from campfire_fx.report.pictures.canvas import check_installed as check_installed
from campfire_fx.report.pictures.canvas import installed as installed
from campfire_fx.report.pictures.canvas import png as png
from campfire_fx.report.pictures.canvas import save as save
from campfire_fx.report.pictures.channel_dependencies import MOST_ROWS as MOST_ROWS
from campfire_fx.report.pictures.channel_dependencies import channel_dependencies as channel_dependencies
from campfire_fx.report.pictures.channel_survival import channel_survival as channel_survival
from campfire_fx.report.pictures.layer_sparsity import layer_sparsity as layer_sparsity
from campfire_fx.report.pictures.mask_grid import mask_grid as mask_grid
from campfire_fx.report.pictures.residual_course import Residuals as Residuals
from campfire_fx.report.pictures.residual_course import residual_course as residual_course
from campfire_fx.report.pictures.robustness_curves import robustness_curves as robustness_curves
from campfire_fx.report.pictures.setting_curves import CurvePoint as CurvePoint
from campfire_fx.report.pictures.setting_curves import setting_curves as setting_curves
from campfire_fx.report.pictures.size_tradeoff import Sized as Sized
from campfire_fx.report.pictures.size_tradeoff import size_tradeoff as size_tradeoff
from campfire_fx.report.pictures.sparsity_course import SparsityPoint as SparsityPoint
from campfire_fx.report.pictures.sparsity_course import sparsity_course as sparsity_course
from campfire_fx.report.pictures.training_course import training_course as training_course
from campfire_fx.report.pictures.vector import inline_svg as inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
