"""Export of trained runs to a model repository in Triton's layout."""

from facegen.export.config import BatchingOptions
from facegen.export.errors import ExportError
from facegen.export.exporter import export_run
from facegen.export.options import ExportOptions
from facegen.export.report import ExportReport, GraphReport
from facegen.export.selection import Measurement

__all__ = [
    "BatchingOptions",
    "ExportError",
    "ExportOptions",
    "ExportReport",
    "GraphReport",
    "Measurement",
    "export_run",
]
