"""Export: write a model to a file that runs without this library, and load such files."""

from campfire_fx.export.api import check_export as check_export
from campfire_fx.export.api import export as export
from campfire_fx.export.api import is_exported as is_exported
from campfire_fx.export.api import load as load
from campfire_fx.export.mnn_file import MnnModel as MnnModel
from campfire_fx.export.onnx_file import OnnxModel as OnnxModel
from campfire_fx.export.record import ExportRecord as ExportRecord
