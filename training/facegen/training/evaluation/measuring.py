"""Everything that is measured of a model, as numbers by name."""

import logging
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facegen.training.data import FaceArrays
from facegen.training.data.labels import load_labels
from facegen.training.data.points import FOUND, find_points
from facegen.training.distances import frechet_distance, kernel_distance
from facegen.training.errors import ConfigurationError
from facegen.training.evaluation.draws import Draws, draw
from facegen.training.evaluation.fidelity import psnr_db, sharpness, spectrum, ssim, weave
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
from facegen.training.evaluation.neighbours import density_coverage, precision_recall
from facegen.training.evaluation.networks import Judge, available_judges
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.sets import KEPT_SETS, PictureSets, make_sets
from facegen.training.evaluation.subject import Encoded, Subject
from facegen.training.evaluation.timing import time_subject

__all__ = ["LATENT_PICTURES", "Measured", "measure"]

LATENT_PICTURES = 5_000
"""The most training pictures whose latents' moments are taken."""

_log = logging.getLogger(__name__)

Features = NDArray[np.float64]


@dataclass(slots=True)
class Measured:
    """What was found, and what it was found with: the report draws on both.

    Attributes:
        numbers: By name, in the order they were found.
        left_out: Reasons by the name of what could not be measured.
        sets: The pictures.
        psnr: Of each reconstruction, (N,).
        encoded: The validation pictures' posteriors.
        latents: Training pictures' posteriors.
        judges: The networks, the main one first.
        features: The main network's, by set, and `real`.
    """

    sets: PictureSets
    psnr: Features
    encoded: Encoded
    latents: Encoded
    judges: tuple[Judge, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


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
    judges, missing = available_judges(subject.facts.reader, faces.dataset, options)
    measured = Measured(
        sets=sets,
        psnr=psnr_db(real, sets.fake["reconstruction"]),
        encoded=subject.encode(real),
        latents=subject.encode(np.asarray(train[:LATENT_PICTURES])),
        judges=judges,
        left_out={f"frechet_…_{name}": reason for name, reason in missing.items()},
    )
    _measure_fidelity(measured)
    _measure_likelihood(measured, subject, draws)
    for judge in judges:
        _measure_distances(measured, judge)
    _measure_neighbourhoods(measured)
    _measure_faces(measured, options)
    if inception is None:
        measured.left_out["inception_fid_…"] = "not asked for: --inception"
    else:
        _measure_inception(measured, inception)
    _measure_temperatures(measured, subject, options)
    _measure_labels(measured, subject, faces, options)
    measured.numbers |= time_subject(subject, real, seconds=options.timing_seconds)
    return measured


def _measure_fidelity(measured: Measured) -> None:
    sets, numbers = measured.sets, measured.numbers
    for prefix, name in (("", "reconstruction"), ("pca_", "pca_reconstruction")):
        numbers[f"{prefix}psnr_db"] = float(psnr_db(sets.real, sets.fake[name]).mean())
        numbers[f"{prefix}ssim"] = ssim(sets.real, sets.fake[name])
    for name, pictures in sets.fake.items():
        numbers[f"sharpness_{name}"] = sharpness(sets.real, pictures)
        numbers[f"weave_{name}"] = weave(sets.real, pictures)
        numbers[f"spectrum_{name}"] = spectrum(sets.real, pictures)


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


def _measure_distances(measured: Measured, judge: Judge) -> None:
    sets, main_judge = measured.sets, judge is measured.judges[0]
    suffix = "" if main_judge else f"_{judge.network.name}"
    reference = judge.features(sets.real, "real pictures", kept=True)
    if main_judge:
        measured.features["real"] = reference
    for name in sets.fake if main_judge else sets.judged:
        features = judge.features(sets.fake[name], name, kept=name in KEPT_SETS)
        _note_distances(measured, f"{name}{suffix}", reference, features)
        if main_judge:
            measured.features[name] = features
    model = measured.numbers[f"frechet_{sets.main}{suffix}"]
    rival = measured.numbers[f"frechet_pca_gaussian{suffix}"]
    measured.numbers[f"frechet_{sets.main}_to_pca_gaussian{suffix}"] = model / max(rival, 1e-12)


def _note_distances(measured: Measured, name: str, real: Features, fake: Features) -> None:
    found = frechet_distance(real, fake)
    measured.numbers[f"frechet_{name}"] = found
    measured.numbers[f"kernel_{name}"] = kernel_distance(real, fake)
    _log.info("measured set=%s frechet=%.4g", name, found)


def _measure_neighbourhoods(measured: Measured) -> None:
    real = measured.features["real"]
    for name in ("floor", measured.sets.main, "normal", "pca_gaussian"):
        fake = measured.features[name]
        found = (*precision_recall(real, fake), *density_coverage(real, fake))
        kinds = ("precision", "recall", "density", "coverage")
        for kind, value in zip(kinds, found, strict=True):
            measured.numbers[f"{kind}_{name}"] = value


def _measure_faces(measured: Measured, options: EvaluationOptions) -> None:
    """In how many pictures dlib's detector, which no training uses, finds a face."""
    sets = measured.sets
    try:
        for name in sets.judged:
            pictures = sets.fake[name][: options.searched_count]
            score = find_points(pictures, description=f"Looking for faces: {name}")["score"]
            measured.numbers[f"found_{name}"] = float((score > FOUND).mean())
    except ConfigurationError as error:
        measured.left_out["found_…"] = str(error)


def _measure_inception(measured: Measured, inception: InceptionDistance) -> None:
    sets = measured.sets
    fake = {name: sets.fake[name] for name in sets.judged}
    for name, distance in inception.of_sets(sets.real, fake).items():
        measured.numbers[f"inception_fid_{name}"] = distance


def _measure_temperatures(measured: Measured, subject: Subject, options: EvaluationOptions) -> None:
    main, judge = measured.sets.main, measured.judges[0]
    for temperature in options.temperatures:
        samples = subject.sample(main, len(measured.sets.real), temperature=temperature)
        name = f"{main}_temperature_{temperature:g}"
        features = judge.features(samples, f"{main} at {temperature:g}")
        real = measured.features["real"]
        _note_distances(measured, name, real, features)
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
        _note_distances(measured, prior, real, samples)
        _note_distances(measured, f"{prior}_floor", real, floor)
        others = measured.features[sets.main][: len(rows)]
        _note_distances(measured, f"{prior}_by_{sets.main}", real, others)
