"""Reports: facts first, as records; then how they look, with rich in a terminal and as plain text elsewhere."""

from campfire_fx.report.acceleration import AccelerationReport as AccelerationReport
from campfire_fx.report.acceleration import acceleration_report as acceleration_report
from campfire_fx.report.attack import AttackReport as AttackReport
from campfire_fx.report.capture import CaptureReport as CaptureReport
from campfire_fx.report.capture import capture_report as capture_report
from campfire_fx.report.coupling import CouplingReport as CouplingReport
from campfire_fx.report.coupling import coupling_report as coupling_report
from campfire_fx.report.dependency import DependencyReport as DependencyReport
from campfire_fx.report.dependency import dependency_report as dependency_report
from campfire_fx.report.flops import FlopReport as FlopReport
from campfire_fx.report.latency import LatencyReport as LatencyReport
from campfire_fx.report.latency import latency_report as latency_report
from campfire_fx.report.shrink import ShrinkReport as ShrinkReport
from campfire_fx.report.shrink import shrink_report as shrink_report
from campfire_fx.report.sparsity import SparsityReport as SparsityReport
from campfire_fx.report.sparsity import sparsity_report as sparsity_report
