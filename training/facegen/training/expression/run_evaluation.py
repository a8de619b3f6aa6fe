"""Measures a finished run of expressions with a finished judge, and leaves what it found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facegen.training.errors import RunError
from facegen.training.expression.classifier import Classifier
from facegen.training.expression.data import load_aligned_faces
from facegen.training.expression.evaluation import (
    Protocol,
    evaluate_expressions,
    headline,
)
from facegen.training.expression.identity import IdentityNetwork
from facegen.training.expression.judging import Judge
from facegen.training.expression.report import report_page
from facegen.training.expression.sheets import expression_sheet, strength_sheet
from facegen.training.expression.sources import LabelledFaces, Pixels
from facegen.training.expression.transferring import transfer_with
from facegen.training.features import FeatureNetwork
from facegen.training.module import to_input
from facegen.training.pages import write_whole
from facegen.training.run import (
    ClassifierRun,
    ExpressionRun,
    load_classifier_run,
    load_expression_run,
)

__all__ = ["evaluate_expression_run", "judge_of", "validation_faces"]

_BATCH_SIZE = 200
_ROWS = 20
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)


def evaluate_expression_run(
    folder: Path,
    *,
    judge: Path,
    data: Path,
    report: Path | None = None,
    protocol: Protocol | None = None,
) -> dict[str, Any]:
    """Measure a run, and write metrics.json, evaluation.json and the report into its folder.

    metrics.json holds the headline as for other runs; evaluation.json everything.

    Args:
        folder: A finished run of an expression model.
        judge: A finished run of a classifier that did not guide it.
        data: The folder that holds its data set.
        report: Where the page goes; evaluation.html in the run folder by default.
        protocol: Counts, strengths and seed.

    Returns:
        Everything that was measured.

    Raises:
        RunError: A run is missing, not finished or of another kind, or the judge is a guide.
        DatasetError: The data is missing, or has no validation face of an expression.
    """
    run, judging = load_expression_run(folder), load_classifier_run(judge)
    _check_judge(run, judging)
    opinion, transfer = judge_of(judging), transfer_with(run.model)
    evaluation = evaluate_expressions(
        transfer,
        run.config.model.expressions,
        faces=validation_faces(run, data),
        judge=opinion,
        identity=IdentityNetwork(),
        features=FeatureNetwork(),
        protocol=replace(protocol or Protocol(), faces=_described(run)),
    )
    results = evaluation.results
    write_whole(run.paths.folder / "evaluation.json", _as_json(results))
    write_whole(run.paths.metrics, _as_json(headline(results)))
    asked = results["expressions"]
    page = report_page(
        f"Expression transfer: {run.paths.folder.resolve().name}",
        evaluation,
        faces=expression_sheet(
            transfer, opinion, evaluation.sources, expressions=asked, row_count=_ROWS
        ),
        strengths=strength_sheet(
            transfer,
            opinion,
            evaluation.sources,
            expressions=asked,
            strengths=_STRENGTHS,
            row_count=2,
        ),
    )
    write_whole(report or run.paths.folder / "evaluation.html", page)
    return results


def judge_of(run: ClassifierRun) -> Judge:
    """The judge that a classifier's run makes."""
    model, config = run.model, run.config
    half = "all" if config.half == "both" else f'half "{config.half}" of the'
    return Judge(
        config.model.expressions,
        lambda images: _probabilities(model, images),
        f"a {config.model.architecture} classifier of width {config.model.width} at "
        f"{config.model.input_size} px, trained on {half} training pictures "
        f"({run.facts['train_pictures']}), seed {config.seed}",
    )


def validation_faces(run: ExpressionRun, data: Path) -> LabelledFaces:
    """The labelled validation faces of a run, those that were found and fit if there are any."""
    config = run.config.data.model_copy(update={"root": str(data)})
    aligned = load_aligned_faces(config, run.config.model.expressions)
    labelled = aligned.validation.labelled()
    kept = labelled.where(labelled.good) if labelled.good.any() else labelled
    return LabelledFaces(kept.images, np.array(aligned.expressions)[kept.labels])


@torch.no_grad()
def _probabilities(model: Classifier, images: Pixels) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(images), _BATCH_SIZE):
        x = to_input(torch.tensor(images[start : start + _BATCH_SIZE], device=device))
        parts.append(model(x).softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)


def _described(run: ExpressionRun) -> str:
    return (
        f"validation faces of {run.config.data.reader} with a majority of "
        f"{run.config.data.majority:g}, found by the detector and fitting the template"
    )


def _check_judge(run: ExpressionRun, judge: ClassifierRun) -> None:
    names = {Path(guide).name for guide in run.config.guides}
    if judge.paths.folder.resolve().name in names:
        raise RunError(judge.paths.folder, "it guided the training; give a judge that did not")


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
