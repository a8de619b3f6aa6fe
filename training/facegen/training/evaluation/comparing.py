"""How far sets of pictures are from real ones, whoever made them, as numbers by name."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.data import Dataset, FaceArrays
from facegen.training.data.points import FOUND, find_points
from facegen.training.distances import frechet_distance, kernel_distance
from facegen.training.errors import ConfigurationError, DatasetError
from facegen.training.evaluation.fidelity import sharpness, spectrum, weave
from facegen.training.evaluation.inception import InceptionDistance
from facegen.training.evaluation.neighbours import density_coverage, precision_recall
from facegen.training.evaluation.networks import Judge, available_judges
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.sets import KEPT_SETS, PictureSets
from facegen.training.pages import write_whole

__all__ = ["Comparison", "check_faces", "compare", "note_distances", "write_metrics"]

_log = logging.getLogger(__name__)

Features = NDArray[np.float64]


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What was found, and what it was found with: the report draws on both.

    Attributes:
        sets: The pictures.
        judges: The networks, the main one first.
        numbers: By name, in the order they were found.
        left_out: Reasons by the name of what could not be measured.
        features: The main network's, by set, and `real`.
    """

    sets: PictureSets
    judges: tuple[Judge, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


def check_faces(faces: FaceArrays, options: EvaluationOptions) -> None:
    """Refuse a data set that nothing can be compared with.

    Raises:
        DatasetError: There are fewer than two validation pictures.
    """
    if min(len(faces.pixels["validation"]), options.count) < 2:
        raise DatasetError(
            faces.dataset.name,
            looked_for="at least 2 validation pictures",
            where=faces.dataset.root,
            remedy="Give a data set with more pictures.",
        )


def compare(
    comparison: Comparison,
    dataset: Dataset,
    options: EvaluationOptions,
    *,
    inception: InceptionDistance | None,
) -> None:
    """Compare every set with the real pictures.

    Args:
        comparison: The sets; all that is found goes there.
        dataset: What the real pictures are of; its folder keeps their features.
        options: Counts.
        inception: Measures its distance, where it is asked for.
    """
    comparison.judges, missing = available_judges(dataset.name, dataset, options)
    comparison.left_out |= {f"frechet_…_{name}": reason for name, reason in missing.items()}
    _measure_textures(comparison)
    for judge in comparison.judges:
        _measure_distances(comparison, judge)
    _measure_neighbourhoods(comparison)
    _measure_faces(comparison, options)
    if inception is None:
        comparison.left_out["inception_fid_…"] = "not asked for: --inception"
    else:
        _measure_inception(comparison, inception)


def note_distances(comparison: Comparison, name: str, real: Features, fake: Features) -> None:
    """Measure the Fréchet and the kernel distance of features, and note both under a name."""
    found = frechet_distance(real, fake)
    comparison.numbers[f"frechet_{name}"] = found
    comparison.numbers[f"kernel_{name}"] = kernel_distance(real, fake)
    _log.info("measured set=%s frechet=%.4g", name, found)


def write_metrics(
    path: Path, comparison: Comparison, *, protocol: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what was found as JSON.

    Args:
        path: The file, metrics.json.
        comparison: The numbers.
        protocol: How they were found, for people.
        fields: The same for machines.

    Returns:
        What was written.
    """
    results: dict[str, Any] = {
        **comparison.numbers,
        "protocol": protocol,
        "protocol_fields": fields,
        "left_out": comparison.left_out,
    }
    write_whole(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return results


def _measure_textures(comparison: Comparison) -> None:
    sets, numbers = comparison.sets, comparison.numbers
    for name, pictures in sets.fake.items():
        numbers[f"sharpness_{name}"] = sharpness(sets.real, pictures)
        numbers[f"weave_{name}"] = weave(sets.real, pictures)
        numbers[f"spectrum_{name}"] = spectrum(sets.real, pictures)


def _measure_distances(comparison: Comparison, judge: Judge) -> None:
    sets, main_judge = comparison.sets, judge is comparison.judges[0]
    suffix = "" if main_judge else f"_{judge.network.name}"
    reference = judge.features(sets.real, "real pictures", kept=True)
    if main_judge:
        comparison.features["real"] = reference
    for name in sets.fake if main_judge else sets.judged:
        features = judge.features(sets.fake[name], name, kept=name in KEPT_SETS)
        note_distances(comparison, f"{name}{suffix}", reference, features)
        if main_judge:
            comparison.features[name] = features
    main = comparison.numbers[f"frechet_{sets.main}{suffix}"]
    rival = comparison.numbers[f"frechet_pca_gaussian{suffix}"]
    comparison.numbers[f"frechet_{sets.main}_to_pca_gaussian{suffix}"] = main / max(rival, 1e-12)


def _measure_neighbourhoods(comparison: Comparison) -> None:
    real = comparison.features["real"]
    for name in comparison.sets.drawn:
        fake = comparison.features[name]
        found = (*precision_recall(real, fake), *density_coverage(real, fake))
        kinds = ("precision", "recall", "density", "coverage")
        for kind, value in zip(kinds, found, strict=True):
            comparison.numbers[f"{kind}_{name}"] = value


def _measure_faces(comparison: Comparison, options: EvaluationOptions) -> None:
    """In how many pictures dlib's detector, which no training uses, finds a face."""
    sets = comparison.sets
    try:
        for name in sets.judged:
            pictures = sets.fake[name][: options.searched_count]
            score = find_points(pictures, description=f"Looking for faces: {name}")["score"]
            comparison.numbers[f"found_{name}"] = float((score > FOUND).mean())
    except ConfigurationError as error:
        comparison.left_out["found_…"] = str(error)


def _measure_inception(comparison: Comparison, inception: InceptionDistance) -> None:
    sets = comparison.sets
    fake = {name: sets.fake[name] for name in sets.judged}
    for name, distance in inception.of_sets(sets.real, fake).items():
        comparison.numbers[f"inception_fid_{name}"] = distance
