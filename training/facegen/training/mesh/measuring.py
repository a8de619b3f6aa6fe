"""What is measured of a mesh autoencoder, beside PCA with as many values."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from facegen.training.evaluation.draws import SEED, Draws, draw
from facegen.training.evaluation.likelihood import active_units, aggregate_kl, kl_nats
from facegen.training.evaluation.subject import Encoded
from facegen.training.evaluation.timing import median_ms
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.generation import nearest_mm
from facegen.training.mesh.latents import decode_meshes
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.mesh.principal import PrincipalComponents, blocks
from facegen.training.run import MeshRun

__all__ = [
    "NOISE_MM",
    "THRESHOLDS_MM",
    "TIMED_BATCHES",
    "MeasuredMeshes",
    "MeasuredSplit",
    "MeshEvaluationOptions",
    "cumulative_error",
    "measure_meshes",
]

THRESHOLDS_MM = tuple(round(0.1 * step, 1) for step in range(101))
"""Where the cumulative error curve is read: as far as COMA's figure goes."""

NOISE_MM = 1.0
"""On every coordinate of meshes that show whether a latent depends on what should not matter."""

TIMED_BATCHES = (1, 16)
_SHOWN = 16
"""Samples of each kind that the report shows, however few are measured."""

_BLOCK = 32

_log = logging.getLogger(__name__)

Reals = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MeshEvaluationOptions:
    """Counts.

    Attributes:
        count: The most meshes of a split, evenly taken from it.
        sample_count: The most samples of each kind.
        timing_seconds: How long each timing is repeated.
    """

    count: int = 2000
    sample_count: int = 500
    timing_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class MeasuredSplit:
    """Held-out meshes, and how far what comes back is from them.

    Attributes:
        vertices: (N, V, 3) in millimetres.
        names: The meshes'.
        encoded: Their posteriors.
        errors: Of the model, (N, V) in millimetres: distances between vertices.
        pca_errors: Of PCA's reconstructions, likewise.
        template_error: The mean of the distances from the mean mesh of the training.
        noisy_error: The model's mean distance from the meshes where it sees them with NOISE_MM of
            normal noise on every coordinate.
        pca_noisy_error: PCA's, likewise.
    """

    vertices: Reals
    names: tuple[str, ...]
    encoded: Encoded
    errors: Reals
    pca_errors: Reals
    template_error: float
    noisy_error: float
    pca_noisy_error: float

    @property
    def ranked(self) -> dict[str, int]:
        """The rows of the meshes that come back `best`, in the middle (`median`) and `worst`."""
        order = np.argsort(self.errors.mean(axis=1)).tolist()
        return {"best": order[0], "median": order[(len(order) - 1) // 2], "worst": order[-1]}


@dataclass(slots=True)
class MeasuredMeshes:
    """What was found, and what it was found with: the report draws on both.

    Attributes:
        splits: All but the training, `validation` first.
        main: The last of them, in which most is new.
        pca: Fitted to all training meshes.
        draws: The samples' noise, and the rows of the training meshes that stand beside them.
        sample_count: Samples of each kind that were measured; `draws` may have more.
        numbers: By name, in the order they were found.
        left_out: Reasons by the name of what could not be measured.
    """

    splits: Mapping[str, MeasuredSplit]
    main: str
    pca: PrincipalComponents
    draws: Draws
    sample_count: int
    numbers: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def tests(self) -> dict[str, MeasuredSplit]:
        """The splits that the training did not look at either."""
        return {name: it for name, it in self.splits.items() if name != "validation"}


def measure_meshes(
    run: MeshRun, meshes: MeshArrays, options: MeshEvaluationOptions
) -> MeasuredMeshes:
    """Measure a model on the splits of its data set that it was not trained on.

    Args:
        run: The model, its mixture and its facts.
        meshes: Its data set.
        options: Counts.
    """
    train = meshes.vertices["train"]
    pca = PrincipalComponents.fit(train, run.config.model.latent_size)
    _log.info("pca fitted meshes=%d components=%d", len(train), len(pca.directions))
    splits = {
        name: _measure_split(run.model, pca, meshes, name, options.count)
        for name in meshes.vertices
        if name != "train"
    }
    main = list(splits)[-1]
    count = min(options.sample_count, len(splits[main].vertices), len(train))
    draws = draw(max(count, _SHOWN), run.config.model.latent_size, len(train))
    measured = MeasuredMeshes(splits, main, pca, draws, count)
    for name, split in splits.items():
        _note_errors(measured.numbers, name, split)
    _measure_generation(measured, run, train)
    _measure_latents(measured)
    measured.numbers["parameters"] = run.model.parameter_count
    if "epoch_seconds" in run.facts:
        measured.numbers["epoch_seconds"] = float(run.facts["epoch_seconds"])
    measured.numbers |= _times(run.model, splits[main].vertices, options.timing_seconds)
    return measured


def cumulative_error(errors: Reals) -> list[float]:
    """The shares of vertices that lie within THRESHOLDS_MM of where they should, 0 to 1."""
    thresholds = np.array(THRESHOLDS_MM, np.float32)
    within = np.searchsorted(np.sort(errors, axis=None), thresholds, side="right")
    return [round(it, 6) for it in (within / errors.size).tolist()]


def _measure_split(
    model: MeshAutoencoder, pca: PrincipalComponents, meshes: MeshArrays, name: str, count: int
) -> MeasuredSplit:
    rows = _evenly(len(meshes.vertices[name]), count)
    vertices = np.asarray(meshes.vertices[name][rows])
    encoded = _encode(model, vertices)
    random = np.random.default_rng(SEED)
    noisy = vertices + NOISE_MM * random.standard_normal(vertices.shape, dtype=np.float32)
    found = MeasuredSplit(
        vertices,
        tuple(meshes.names[name][row] for row in rows),
        encoded,
        _distances(vertices, decode_meshes(model, encoded.mean)),
        np.concatenate([_distances(it, pca.reconstruct(it)) for it in blocks(vertices)]),
        float(_distances(vertices, np.broadcast_to(pca.mean, vertices.shape)).mean()),
        float(_distances(vertices, decode_meshes(model, _encode(model, noisy).mean)).mean()),
        float(_distances(vertices, pca.reconstruct(noisy)).mean()),
    )
    _log.info(
        "measured split=%s meshes=%d error_mm=%.3f pca_mm=%.3f",
        *(name, len(vertices), found.errors.mean(), found.pca_errors.mean()),
    )
    return found


def _evenly(length: int, count: int) -> NDArray[np.intp]:
    """Rows all over a split, whose first meshes may all be of one person."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(np.intp)


@torch.no_grad()
def _encode(model: MeshAutoencoder, vertices: Reals) -> Encoded:
    found = [model.encoder(torch.from_numpy(it)) for it in blocks(vertices, size=_BLOCK)]
    mean = torch.cat([it.mu for it in found]).numpy()
    logvars = [it.logvar for it in found if it.logvar is not None]
    return Encoded(mean, torch.cat(logvars).numpy() if logvars else None)


def _distances(vertices: Reals, others: Reals) -> Reals:
    """Between vertices of the same place, (N, V)."""
    parts = [
        np.linalg.norm(a - b, axis=2) for a, b in zip(blocks(vertices), blocks(others), strict=True)
    ]
    return np.concatenate(parts)


def _note_errors(numbers: dict[str, float], name: str, split: MeasuredSplit) -> None:
    for prefix, errors in (("", split.errors), ("pca_", split.pca_errors)):
        numbers |= {
            f"{prefix}vertex_error_mm_{name}": float(errors.mean(dtype=np.float64)),
            f"{prefix}vertex_error_std_mm_{name}": float(errors.std(dtype=np.float64)),
            f"{prefix}vertex_error_median_mm_{name}": float(np.median(errors)),
        }
    rival = numbers[f"pca_vertex_error_mm_{name}"]
    numbers[f"vertex_error_to_pca_{name}"] = numbers[f"vertex_error_mm_{name}"] / max(rival, 1e-12)
    numbers[f"template_vertex_error_mm_{name}"] = split.template_error
    numbers[f"noisy_vertex_error_mm_{name}"] = split.noisy_error
    numbers[f"pca_noisy_vertex_error_mm_{name}"] = split.pca_noisy_error


def _measure_generation(measured: MeasuredMeshes, run: MeshRun, train: Reals) -> None:
    """Specificity and variety of samples, and of unseen meshes beside them."""
    pca, draws, count = measured.pca, measured.draws, measured.sample_count
    noise = draws.noise[:count]
    split = measured.splits[measured.main].vertices
    unseen = split[_evenly(len(split), count)]
    mixture = run.prior.sample(noise, draws.uniform[:count])
    specificity, variety = {}, {}
    for name, samples in (
        ("mixture", decode_meshes(run.model, mixture)),
        ("normal", decode_meshes(run.model, noise)),
        ("pca_gaussian", pca.sample(noise[:, : len(pca.directions)])),
    ):
        specificity[name] = nearest_mm(samples, train, centre=pca.mean)
        variety[name] = nearest_mm(unseen, samples, centre=pca.mean)
    specificity["floor"] = nearest_mm(unseen, train, centre=pca.mean)
    variety["floor"] = nearest_mm(unseen, train[draws.rows[:count]], centre=pca.mean)
    for kind, found in (("specificity", specificity), ("variety", variety)):
        for name, distances in found.items():
            measured.numbers[f"{kind}_mm_{name}"] = float(distances.mean())
    _log.info("sampled count=%d specificity_mm=%.3f", count, specificity["mixture"].mean())


def _measure_latents(measured: MeasuredMeshes) -> None:
    encoded = measured.splits["validation"].encoded
    kl = aggregate_kl(encoded) if len(encoded.mean) > encoded.mean.shape[1] else math.inf
    if math.isfinite(kl):
        measured.numbers["aggregate_kl_nats"] = kl
    else:
        reason = "the latents of the validation meshes span less"
        measured.left_out["aggregate_kl_nats"] = reason
    if encoded.logvar is None:
        reason = "an autoencoder has no posterior"
        measured.left_out |= dict.fromkeys(("kl_nats", "active_units"), reason)
        return
    measured.numbers["kl_nats"] = float(kl_nats(encoded).mean())
    measured.numbers["active_units"] = active_units(encoded.mean)


@torch.no_grad()
def _times(model: MeshAutoencoder, vertices: Reals, seconds: float) -> dict[str, float]:
    """Median milliseconds a mesh, PyTorch on one thread."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        for size in TIMED_BATCHES:
            batch = torch.from_numpy(vertices[[row % len(vertices) for row in range(size)]])
            latents = model.encoder(batch).mu
            encode, decode = partial(model.encoder, batch), partial(model.decoder, latents)
            for name, call in (("encode", encode), ("decode", decode)):
                took = median_ms(call, seconds=seconds)
                found[f"{name}_ms_batch_{size}"] = took / size
    finally:
        torch.set_num_threads(threads)
    return found
