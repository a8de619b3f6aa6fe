"""From a finished run of meshes to metrics.json, pictures and a page."""

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

from facegen.training.evaluation.curves import curves
from facegen.training.mesh.gallery import Gallery
from facegen.training.mesh.measuring import (
    THRESHOLDS_MM,
    MeasuredMeshes,
    MeshEvaluationOptions,
    cumulative_error,
    measure_meshes,
)
from facegen.training.mesh.protocol import mesh_protocol_fields, mesh_protocol_sentence
from facegen.training.mesh.report import mesh_report_page
from facegen.training.pages import lighter, write_whole
from facegen.training.run import MeshRun, load_mesh_run
from facegen.training.storage import write_atomically

__all__ = ["evaluate_mesh_run"]

_log = logging.getLogger(__name__)


def evaluate_mesh_run(
    folder: Path,
    data: Path,
    *,
    options: MeshEvaluationOptions | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Measure a finished run of meshes, and write what was found into its folder.

    Names say what they measure, for each split but the training: `vertex_error_mm_SPLIT` with
    `…_std_…` and `…_median_…`, the same of PCA (`pca_…`), the ratio `vertex_error_to_pca_SPLIT`;
    `specificity_mm_…` and `variety_mm_…` of samples; `explain` has words for each. metrics.json
    holds the numbers, evaluation.json the cumulative error curves and the names of the meshes that
    come back best and worst, and pictures/ a comparison and an animation for a card. Of a reader
    other than `ict` there is no comparison: cards are passed on, and its meshes may be people.

    Args:
        folder: A finished run folder of a mesh autoencoder.
        data: The folder that holds its data set.
        options: Counts.
        report: Where the page goes; evaluation.html in the run folder by default. Beside it goes
            the same without people of the data set, evaluation-public.html.

    Returns:
        What metrics.json holds: numbers by name, `protocol` as a sentence, `protocol_fields`, and
        `left_out`, reasons by the name of what was not measured.

    Raises:
        RunError: The run is missing, not finished, of another kind, or of another topology.
        DatasetError: Its data is missing or broken.
        RenderingError: No ray caster on this machine; the numbers are written all the same.
    """
    run, options = load_mesh_run(folder), options or MeshEvaluationOptions()
    begun = time.perf_counter()
    meshes = run.meshes(data)
    measured = measure_meshes(run, meshes, options)
    results: dict[str, Any] = {
        **measured.numbers,
        "protocol": mesh_protocol_sentence(run, meshes, measured),
        "protocol_fields": mesh_protocol_fields(run, meshes, measured, options),
        "left_out": measured.left_out,
    }
    write_whole(run.paths.metrics, _as_json(results))
    write_whole(run.paths.evaluation, _as_json(_details(measured)))
    _draw(run, measured, results, page=report or run.paths.page)
    _log.info("evaluated seconds=%.0f", time.perf_counter() - begun)
    return results


def _draw(run: MeshRun, measured: MeasuredMeshes, results: dict[str, Any], *, page: Path) -> None:
    gallery = Gallery.of(run.model, run.prior, measured)
    nobody = run.config.data.reader == "ict"  # its meshes are synthesised
    run.paths.pictures.mkdir(exist_ok=True)
    pictures = gallery.pictures(nobody=nobody)
    write_atomically(run.paths.traversals, pictures.moving)
    if nobody:
        write_atomically(run.paths.comparison, gallery.card())
    make = partial(
        mesh_report_page, run, measured, results, pictures=pictures, curves=curves(run.paths)
    )
    html = make()
    write_whole(page, html)
    public = html if nobody else make(hidden=True)
    write_whole(page.with_stem(f"{page.stem}-public"), lighter(public))


def _details(measured: MeasuredMeshes) -> dict[str, Any]:
    """What metrics.json has no room for."""
    return {
        "cumulative_error": {
            "thresholds_mm": list(THRESHOLDS_MM),
            "shares": {
                name: {
                    "model": cumulative_error(split.errors),
                    "pca": cumulative_error(split.pca_errors),
                }
                for name, split in measured.splits.items()
            },
        },
        "ranked": {
            name: {
                place: {
                    "name": split.names[row],
                    "vertex_error_mm": float(split.errors[row].mean()),
                    "pca_vertex_error_mm": float(split.pca_errors[row].mean()),
                }
                for place, row in split.ranked.items()
            }
            for name, split in measured.splits.items()
        },
    }


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
