"""Fits priors and directions to a run that is finished already, and measures the directions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facegen.training.callbacks.record import write_json
from facegen.training.data import load_labels
from facegen.training.effects import measure_effects
from facegen.training.evaluation.networks import Judge
from facegen.training.features import FeatureNetwork
from facegen.training.fitting import fit_autoencoder
from facegen.training.run import load_run

__all__ = ["FitOptions", "fit_run"]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What to fit and to measure.

    Attributes:
        labels: Those whose pictures get a prior of their own; None takes the recipe's.
        candidates: Component counts to choose from by BIC; empty takes the recipe's.
        mixture: Fit the prior of all pictures anew, in place of the one that training left.
        effects: Measure what the directions change.
        count: The most photos of each kind to try a direction on.
    """

    labels: tuple[str, ...] | None = None
    candidates: tuple[int, ...] = ()
    mixture: bool = False
    effects: bool = True
    count: int = 100


def fit_run(folder: Path, data: Path | None, *, options: FitOptions) -> dict[str, Any]:
    """Fit priors and directions, write them into the run folder, then measure and write effects.

    Args:
        folder: A finished run of an autoencoder.
        data: Where its data set lies now; None takes the folder it was trained from.
        options: What to do.

    Returns:
        JSON values: `priors` (component counts by name), `directions` (names), `effects`.

    Raises:
        ConfigurationError: A label that the data set lacks, or that too few pictures have.
        RunError: The run is missing, not finished or of another kind.
        DatasetError: The data is missing.
    """
    run = load_run(folder)
    faces = run.faces(data)
    changes: dict[str, Any] = {}
    if options.labels is not None:
        changes["labels"] = options.labels
    if options.candidates:
        changes["candidates"] = options.candidates
    prior = run.config.prior.model_copy(update=changes)
    fitted = fit_autoencoder(
        run.model,
        np.asarray(faces.pixels["train"]),
        labels=load_labels(faces)["train"],
        config=run.config.model_copy(update={"prior": prior}),
        prior=None if options.mixture else run.prior,
    )
    fitted.save(run.paths)
    assert fitted.directions is not None
    effects: dict[str, Any] = {}
    if options.effects:
        judge = Judge(FeatureNetwork(), faces.dataset, limit=len(faces.dataset.pictures))
        effects = measure_effects(
            run.model, fitted.directions, faces, judge=judge, count=options.count
        )
    if effects:
        write_json(run.paths.effects, effects)
    mixtures = {"mixture": fitted.prior, **fitted.label_priors}
    return {
        "priors": {name: len(mixture.weights) for name, mixture in mixtures.items()},
        "directions": list(fitted.directions.names),
        "effects": effects,
    }
