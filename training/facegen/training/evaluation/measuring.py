"""Everything that is measured of a model, as numbers by name."""

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.training.data import FaceArrays
from facegen.training.data.labels import load_labels
from facegen.training.evaluation.comparing import Comparison, compare, note_distances
from facegen.training.evaluation.draws import Draws, draw
from facegen.training.evaluation.fidelity import psnr_db, ssim
from facegen.training.evaluation.inception import InceptionDistance
from facegen.training.evaluation.labels import rows_with
from facegen.training.evaluation.likelihood import (
    active_units,
    aggregate_kl,
    best_sigma,
    bits_per_dimension,
    kl_nats,
    posterior_sample,
    squared_error,
)
from facegen.training.evaluation.neighbours import precision_recall
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.sets import make_sets
from facegen.training.evaluation.subject import Encoded, Subject
from facegen.training.evaluation.timing import time_subject

__all__ = ["LATENT_PICTURES", "Measured", "measure"]

LATENT_PICTURES = 5_000
"""The most training pictures whose latents' moments are taken."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Measured(Comparison):
    """A model's sets compared with real pictures, and what it made of those.

    Attributes:
        psnr: Of each reconstruction, (N,).
        encoded: The validation pictures' posteriors.
        latents: Training pictures' posteriors.
    """

    psnr: NDArray[np.float64]
    encoded: Encoded
    latents: Encoded


def measure(subject: Subject, faces: FaceArrays, options: EvaluationOptions) -> Measured:
    """Measure a model on validation pictures of its data set.

    Args:
        subject: The model.
        faces: Its data set at its size, with two validation pictures at least.
        options: Counts, and what costs more.
    """
    inception = InceptionDistance() if options.inception else None  # refused now or never
    real = np.asarray(faces.pixels["validation"][: options.count])
    train = faces.pixels["train"]
    draws = draw(len(real), subject.facts.latent_size, len(train))
    _log.info("sampling count=%d priors=%s", len(real), ",".join(subject.facts.priors))
    sets = make_sets(subject, real, train, draws=draws)
    measured = Measured(
        sets=sets,
        psnr=psnr_db(real, sets.fake["reconstruction"]),
        encoded=subject.encode(real),
        latents=subject.encode(np.asarray(train[:LATENT_PICTURES])),
    )
    _measure_fidelity(measured)
    compare(measured, faces.dataset, options, inception=inception)
    _measure_likelihood(measured, subject, draws)
    _measure_temperatures(measured, subject, options)
    _measure_labels(measured, subject, faces, options)
    measured.numbers |= time_subject(subject, real, seconds=options.timing_seconds)
    return measured


def _measure_fidelity(measured: Measured) -> None:
    sets, numbers = measured.sets, measured.numbers
    for prefix, name in (("", "reconstruction"), ("pca_", "pca_reconstruction")):
        numbers[f"{prefix}psnr_db"] = float(psnr_db(sets.real, sets.fake[name]).mean())
        numbers[f"{prefix}ssim"] = ssim(sets.real, sets.fake[name])


def _measure_likelihood(measured: Measured, subject: Subject, draws: Draws) -> None:
    encoded, numbers = measured.encoded, measured.numbers
    if len(measured.latents.mean) > encoded.mean.shape[1]:
        kl = aggregate_kl(measured.latents)
        if math.isfinite(kl):
            numbers["aggregate_kl_nats"] = kl
    if "aggregate_kl_nats" not in numbers:
        measured.left_out["aggregate_kl_nats"] = "the latents of the training pictures span less"
    if encoded.logvar is None:
        reason = "an autoencoder has no posterior and no likelihood"
        names = ("bits_per_dimension", "active_units", "kl_nats")
        measured.left_out |= dict.fromkeys(names, reason)
        return
    real, value_count = measured.sets.real, measured.sets.real[0].size
    known = measured.sets.fake["floor"]  # training pictures
    of_known = subject.encode(known)
    sigma = best_sigma(squared_error(known, _rebuilt(subject, of_known, draws)), value_count)
    errors = squared_error(real, _rebuilt(subject, encoded, draws))
    numbers["bits_per_dimension"] = bits_per_dimension(
        errors, kl_nats(encoded), sigma=sigma, value_count=value_count
    )
    numbers["sigma_levels"] = sigma
    numbers["kl_nats"] = float(kl_nats(encoded).mean())
    numbers["active_units"] = active_units(measured.latents.mean)


def _rebuilt(subject: Subject, encoded: Encoded, draws: Draws) -> NDArray[np.uint8]:
    return subject.decode(posterior_sample(encoded, draws.noise[: len(encoded.mean)]))


def _measure_temperatures(measured: Measured, subject: Subject, options: EvaluationOptions) -> None:
    main, judge = measured.sets.main, measured.judges[0]
    for temperature in options.temperatures:
        samples = subject.sample(main, len(measured.sets.real), temperature=temperature)
        name = f"{main}_temperature_{temperature:g}"
        features = judge.features(samples, f"{main} at {temperature:g}")
        real = measured.features["real"]
        note_distances(measured, name, real, features)
        precision, recall = precision_recall(real, features)
        measured.numbers |= {f"precision_{name}": precision, f"recall_{name}": recall}


def _measure_labels(
    measured: Measured, subject: Subject, faces: FaceArrays, options: EvaluationOptions
) -> None:
    """Distances of a label's samples from real pictures of it, beside a floor and a rival."""
    sets, judge, labels = measured.sets, measured.judges[0], load_labels(faces)
    for prior in subject.facts.priors:
        if prior in (sets.main, "normal"):
            continue
        rows = rows_with(labels["validation"], prior)
        rows = rows[rows < len(sets.real)][: options.label_count]
        known = rows_with(labels["train"], prior)[: len(rows)]
        if min(len(rows), len(known)) < max(options.label_minimum, 2):
            measured.left_out[f"frechet_{prior}"] = (
                f"{len(rows)} validation pictures of that label, {options.label_minimum} needed"
            )
            continue
        real = measured.features["real"][rows]
        samples = judge.features(subject.sample(prior, len(rows)), prior)
        floor = judge.features(np.asarray(sets.train[known]), f"{prior}, training", kept=True)
        note_distances(measured, prior, real, samples)
        note_distances(measured, f"{prior}_floor", real, floor)
        others = measured.features[sets.main][: len(rows)]
        note_distances(measured, f"{prior}_by_{sets.main}", real, others)
