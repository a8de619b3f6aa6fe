"""What an export wrote and measured, as a table and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from facegen.export.checks import VertexError
from facegen.export.selection import GraphTrial

__all__ = ["ExportReport", "GraphReport", "error_text", "report_json", "report_table", "times_text"]


@dataclass(frozen=True, slots=True)
class GraphReport:
    """One graph of an export.

    Attributes:
        name: Its name in the model repository.
        form: The form chosen for it.
        size: Bytes of its file.
        plain_size: Bytes without rewrites and with float32 weights; 0 if not measured.
        largest_error: The most a pixel differs from PyTorch's, in 8-bit levels, or a vertex, in
            millimetres; None for a prior.
        mean_error: The mean of those differences; None for a prior.
        times_ms: Milliseconds a row of the chosen form by batch size, on one thread.
        plain_ms: The same of the graph without rewrites; equal for a graph that has none.
        forms_ms: The same of every form that passed the checks.
        in_mm: Whether the errors are in millimetres.
    """

    name: str
    form: str
    size: int
    plain_size: int
    largest_error: float | None
    mean_error: float | None
    times_ms: Mapping[int, float]
    plain_ms: Mapping[int, float]
    forms_ms: Mapping[str, Mapping[int, float]]
    in_mm: bool = False

    @classmethod
    def of(cls, name: str, trial: GraphTrial) -> "GraphReport":
        """Report a trial."""
        times_ms = trial.times_ms[trial.form]
        return cls(
            name=name,
            form=trial.form,
            size=trial.model.ByteSize(),
            plain_size=trial.plain_size,
            largest_error=trial.error.largest if trial.error else None,
            mean_error=trial.error.mean if trial.error else None,
            times_ms=times_ms,
            plain_ms=trial.times_ms.get("plain, float32", times_ms),
            forms_ms=trial.times_ms,
            in_mm=isinstance(trial.error, VertexError),
        )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An export.

    Attributes:
        family: The family's name.
        version: The version written.
        graphs: Its graphs.
        written: The files written.
    """

    family: str
    version: int
    graphs: tuple[GraphReport, ...]
    written: tuple[Path, ...]

    @property
    def of_meshes(self) -> bool:
        """Whether it is a family of meshes."""
        return any(graph.in_mm for graph in self.graphs)


def report_table(report: ExportReport) -> Table:
    """Lay out sizes, errors, and milliseconds an image of the chosen and the plain form."""
    sizes = sorted({size for graph in report.graphs for size in graph.times_ms})
    error, row = ("error in mm", "a mesh") if report.of_meshes else ("level error", "an image")
    table = Table(
        "graph",
        "form",
        "MB",
        error,
        *(f"ms at {size}" for size in sizes),
        title=f"{report.family}, version {report.version}",
        caption=f"ms {row} on one thread, plain form in brackets; {error}: largest, mean",
    )
    for graph in report.graphs:
        times = (times_text(graph, size) for size in sizes)
        table.add_row(graph.name, graph.form, _megabytes(graph), error_text(graph), *times)
    return table


def _megabytes(graph: GraphReport) -> str:
    size = f"{graph.size / 1e6:.2f}"
    return size if graph.plain_size in (0, graph.size) else f"{size} ({graph.plain_size / 1e6:.2f})"


def error_text(graph: GraphReport) -> str:
    """The largest and the mean error of a graph; a dash for a prior."""
    if graph.largest_error is None:
        return "–"
    if graph.in_mm:
        return f"{graph.largest_error:.0e}, {graph.mean_error:.0e}"
    return f"{graph.largest_error}, {graph.mean_error:.4f}"


def times_text(graph: GraphReport, size: int) -> str:
    """Milliseconds a row in batches of a size, those of the plain form in brackets."""
    chosen, plain = graph.times_ms.get(size), graph.plain_ms.get(size)
    if chosen is None or plain is None:
        return "–"
    return f"{chosen:.3f}" if plain == chosen else f"{chosen:.3f} ({plain:.3f})"


def report_json(report: ExportReport) -> dict[str, Any]:
    """The same for machines: JSON types only."""
    error, row = ("error_mm", "mesh") if report.of_meshes else ("level_error", "image")
    return {
        "family": report.family,
        "version": str(report.version),
        "written": [str(path) for path in report.written],
        "graphs": [
            {
                "name": graph.name,
                "form": graph.form,
                "bytes": graph.size,
                f"largest_{error}": graph.largest_error,
                f"mean_{error}": graph.mean_error,
                f"ms_per_{row}": {
                    form: {str(size): ms for size, ms in times.items()}
                    for form, times in graph.forms_ms.items()
                },
            }
            for graph in report.graphs
        ],
    }
