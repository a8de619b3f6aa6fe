"""What directions do to photos that nothing was fitted to, as a classifier sees it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.attributes import (
    AttributeClassifier,
    balanced_accuracy,
    fit_classifier,
)
from facegen.training.autoencoder import Autoencoder
from facegen.training.data import FaceArrays, Labels, load_labels
from facegen.training.directions import Directions
from facegen.training.evaluation.networks import Judge
from facegen.training.latents import decode_latents, encode_pictures

__all__ = [
    "LEAST_ACCURACY",
    "LEAST_EFFECT",
    "edit_photos",
    "measure_effects",
]

Pixels = NDArray[np.uint8]

LEAST_ACCURACY = 0.7
"""Balanced accuracy on real photos under which a classifier says nothing of an edit."""

LEAST_EFFECT = 0.1
"""Mean change of the probability under which a direction is not offered."""

_TRAIN_COUNT = 8000
_LEAST_FACES = 10
_NAMED_OTHERS = 3

_log = logging.getLogger(__name__)


def measure_effects(
    model: Autoencoder,
    directions: Directions,
    faces: FaceArrays,
    *,
    judge: Judge,
    count: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what each label's direction changes in validation photos.

    The classifier learned from training photos through a network that took no part in finding the
    directions; it never sees a latent. A photo is edited as it is served: it, plus what the move
    changes in its reconstruction.

    Args:
        model: The trained model.
        directions: To measure; those of principal axes are left out.
        faces: The model's data set.
        judge: Its network gives the classifier its features.
        count: The most photos of each kind that a direction is tried on: so many without the label
            at strength 1, and so many with it at −1.
        seed: Decides which.

    Returns:
        JSON values: `protocol`, `least_accuracy`, `least_effect` and `directions`, by name:
        `balanced_accuracy` of the classifier on real photos; where that is enough
        `photos_without`, `photos_with`, `before` (mean probability of the photos without the
        label), `added` and `removed` (mean changes at 1 and −1), `error` (the standard error of
        `added`), `others` (mean absolute change of the other labels' probabilities) and `moved`
        (those that change most); and `kept`: whether the direction is exported.
    """
    labels = load_labels(faces)
    measured = [name for name in directions.names if name in labels["train"].names]
    if not measured:
        return {}
    classifier = _train_classifier(judge, faces, labels["train"], measured)
    known = labels["validation"].known
    photos = np.asarray(faces.pixels["validation"])[known]
    values = _columns(labels["validation"], measured)[known]
    before = classifier.probabilities(judge.features(photos, "validation photos", kept=True))
    accuracies = balanced_accuracy(before, values)
    able = accuracies >= LEAST_ACCURACY
    latents = encode_pictures(model, photos)
    trial = _Trial(model, judge, classifier, photos, latents, before, able)
    found = {}
    for k, name in enumerate(measured):
        seen = bool(np.isfinite(accuracies[k]))
        accuracy = {"balanced_accuracy": _number(accuracies[k])} if seen else {}
        found[name] = {**accuracy, "kept": False}
        without, having = (
            _draw(np.flatnonzero(values[:, k] == has), count, seed=[seed, k]) for has in (0, 1)
        )
        if not trial.able[k] or min(len(without), len(having)) < _LEAST_FACES:
            continue
        vector = directions.vector(name)
        found[name] |= trial.of(k, vector, without=without, having=having)
        _log.info("measured direction=%s added=%.2f", name, found[name]["added"])
    return {
        "protocol": _protocol(faces, judge, count),
        "least_accuracy": LEAST_ACCURACY,
        "least_effect": LEAST_EFFECT,
        "directions": found,
    }


def edit_photos(
    model: Autoencoder,
    photos: Pixels,
    latents: NDArray[np.float32],
    *,
    move: NDArray[np.float32],
) -> Pixels:
    """Change photos by what a move changes in their reconstructions.

    Args:
        model: Decodes.
        photos: (N, H, W, C) uint8.
        latents: Theirs, (N, Z).
        move: Added to every latent, (Z,).

    Returns:
        (N, H, W, C) uint8.
    """
    still, moved = (decode_latents(model, it) for it in (latents, latents + move))
    changed = photos.astype(np.int16) + moved - still
    edited: Pixels = np.clip(changed, 0, 255).astype(np.uint8)
    return edited


@dataclass(frozen=True, slots=True)
class _Trial:
    """Validation photos, and what the classifier says of them.

    Attributes:
        model: Edits them.
        judge: Gives features.
        classifier: Judges them.
        photos: (N, H, W, C) uint8.
        latents: (N, Z).
        before: Probabilities of the photos as they are, (N, L).
        able: Labels of which the classifier says something, (L,).
    """

    model: Autoencoder
    judge: Judge
    classifier: AttributeClassifier
    photos: Pixels
    latents: NDArray[np.float32]
    before: NDArray[np.float32]
    able: NDArray[np.bool_]

    def change(
        self, rows: NDArray[np.intp], move: NDArray[np.float32], *, what: str
    ) -> NDArray[np.float32]:
        """How probabilities of photos change when they are moved, (rows, L)."""
        edited = edit_photos(self.model, self.photos[rows], self.latents[rows], move=move)
        after = self.classifier.probabilities(self.judge.features(edited, what))
        changed: NDArray[np.float32] = after - self.before[rows]
        return changed

    def of(
        self,
        k: int,
        vector: NDArray[np.float32],
        *,
        without: NDArray[np.intp],
        having: NDArray[np.intp],
    ) -> dict[str, Any]:
        """What label k's direction does to photos without the label, and back to those with it."""
        name = self.classifier.names[k]
        added = self.change(without, vector, what=f"more {name}")
        removed = self.change(having, -vector, what=f"less {name}")
        means = added.mean(0)
        others = np.flatnonzero(self.able & (np.arange(len(means)) != k))
        most = others[np.argsort(-np.abs(means[others]), kind="stable")][:_NAMED_OTHERS]
        return {
            "photos_without": len(without),
            "photos_with": len(having),
            "before": _number(self.before[without, k].mean()),
            "added": _number(means[k]),
            "error": _number(added[:, k].std() / np.sqrt(len(without))),
            "removed": _number(removed[:, k].mean()),
            "others": _number(np.abs(means[others]).mean()) if len(others) else 0.0,
            "moved": {self.classifier.names[other]: _number(means[other]) for other in most},
            "kept": bool(means[k] >= LEAST_EFFECT),
        }


def _train_classifier(
    judge: Judge, faces: FaceArrays, labels: Labels, names: Sequence[str]
) -> AttributeClassifier:
    rows = np.flatnonzero(labels.known)
    rows = rows[np.linspace(0, len(rows) - 1, min(_TRAIN_COUNT, len(rows))).astype(np.intp)]
    photos = np.asarray(faces.pixels["train"])[rows]
    features = judge.features(photos, "training photos", kept=True)
    return fit_classifier(features, _columns(labels, names)[rows], names=names)


def _columns(labels: Labels, names: Sequence[str]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = labels.values[:, [labels.names.index(name) for name in names]]
    return found


def _draw(rows: NDArray[np.intp], count: int, *, seed: Sequence[int]) -> NDArray[np.intp]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def _number(value: Any) -> float:
    return round(float(value), 4)


def _protocol(faces: FaceArrays, judge: Judge, count: int) -> str:
    network = judge.network
    return (
        f"Validation photos of {faces.dataset.name}, at most {count} without the label at strength "
        f"1 and {count} with it at −1, each as served: the photo plus the change of its "
        f"reconstruction. Judge: balanced logistic regression on features of {network.description} "
        f"(sha256 {network.sha256[:12]}) of training photos; probabilities as if half of all faces "
        f"had the label. Kept: balanced accuracy on real photos at least {LEAST_ACCURACY:g}, and "
        f"mean change at strength 1 at least {LEAST_EFFECT:g}."
    )
