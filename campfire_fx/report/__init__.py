"""Reports: facts first, as records; then how they look, with rich in a terminal and as plain text elsewhere."""

from campfire_fx.report.shrink import ShrinkReport as ShrinkReport
from campfire_fx.report.shrink import shrink_report as shrink_report
from campfire_fx.report.sparsity import SparsityReport as SparsityReport
from campfire_fx.report.sparsity import sparsity_report as sparsity_report
