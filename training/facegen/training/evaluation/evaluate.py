"""From a finished run, or any other subject, to metrics.json and a page."""

import logging
import time
from pathlib import Path
from typing import Any

from facegen.training.data import FaceArrays, load_faces
from facegen.training.evaluation.comparing import check_faces, write_metrics
from facegen.training.evaluation.curves import curves
from facegen.training.evaluation.measuring import measure
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.protocol import protocol_fields, protocol_sentence
from facegen.training.evaluation.report import report_page
from facegen.training.evaluation.run_subject import RunSubject
from facegen.training.evaluation.subject import Subject
from facegen.training.pages import lighter, write_whole
from facegen.training.run import RunPaths, load_run

__all__ = ["evaluate_run", "evaluate_served", "evaluate_subject"]

_log = logging.getLogger(__name__)


def evaluate_run(
    folder: Path,
    data: Path,
    *,
    options: EvaluationOptions | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Measure a finished run, and write metrics.json and evaluation.html into its folder.

    Args:
        folder: A finished run folder of an autoencoder.
        data: The folder that holds its data set.
        options: Counts, and what costs more.
        report: Where the page goes instead.

    Returns:
        As `evaluate_subject`.

    Raises:
        RunError: The run is missing, not finished or of another kind.
        DatasetError: Its data is missing, or has fewer than two validation pictures.
        ConfigurationError: Inception is asked for and is not there.
    """
    run, options = load_run(folder), options or EvaluationOptions()
    return evaluate_subject(
        RunSubject(run, count=options.count),
        run.faces(data),
        folder=run.paths.folder,
        options=options,
        report=report,
    )


def evaluate_served(
    subject: Subject,
    data: Path,
    *,
    folder: Path,
    options: EvaluationOptions | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """Measure a served model on the validation pictures of its data set.

    Args:
        subject: The served model.
        data: The folder that holds its data set.
        folder: Where metrics.json and evaluation.html go.
        options: Counts, and what costs more.
        report: Where the page goes instead.

    Returns:
        As `evaluate_subject`.

    Raises:
        DatasetError: The data is missing, or has fewer than two validation pictures.
        ConfigurationError: Inception is asked for and is not there.
    """
    facts = subject.facts
    faces = load_faces(facts.reader, data, size_px=facts.image_size, channels=facts.channels)
    return evaluate_subject(
        subject, faces, folder=folder, options=options or EvaluationOptions(), report=report
    )


def evaluate_subject(
    subject: Subject,
    faces: FaceArrays,
    *,
    folder: Path,
    options: EvaluationOptions,
    report: Path | None = None,
) -> dict[str, Any]:
    """Measure a model, and write metrics.json and a page.

    Names say what they measure: `psnr_db`, `ssim` and `sharpness_…` of reconstructions; `frechet_…`
    and `kernel_…` of the reconstructions, of samples from the main prior and from N(0, I), and for
    comparison of training pictures (`floor`, the least that any model can reach), of PCA's
    reconstructions and of Gaussian samples in PCA space at the same latent size; `explanations`
    has words for each.

    Args:
        subject: The model.
        faces: Its data set at its size.
        folder: Where metrics.json goes; curves of a training there are drawn.
        options: Counts, and what costs more.
        report: Where the page goes; evaluation.html in that folder by default. Beside it goes the
            same without people of the data set, evaluation-public.html.

    Returns:
        What metrics.json holds: numbers by name, `protocol` as a sentence, `protocol_fields`, and
        `left_out`, reasons by the name of what was not measured.

    Raises:
        DatasetError: There are fewer than two validation pictures.
        ConfigurationError: Inception is asked for and is not there.
    """
    check_faces(faces, options)
    begun = time.perf_counter()
    measured = measure(subject, faces, options)
    paths = RunPaths(folder)
    results = write_metrics(
        paths.metrics,
        measured,
        protocol=protocol_sentence(faces, measured, options),
        fields=protocol_fields(subject.facts, faces, measured, options),
    )
    page = report or folder / "evaluation.html"
    course = curves(paths)
    for path, public in ((page, False), (page.with_stem(f"{page.stem}-public"), True)):
        html = report_page(
            subject, measured, results, options=options, curves=course, public=public
        )
        write_whole(path, lighter(html) if public else html)
    _log.info("evaluated seconds=%.0f page=%s", time.perf_counter() - begun, page)
    return results
