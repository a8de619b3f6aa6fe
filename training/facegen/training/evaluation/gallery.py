"""The pictures of a report, as HTML: reconstructions, samples, walks through the latent space."""

from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from facegen.training.evaluation.comparing import Comparison
from facegen.training.evaluation.measuring import Measured
from facegen.training.evaluation.nearest import Nearest
from facegen.training.evaluation.subject import Latents, Pixels, Subject
from facegen.training.pages import picture, strip

__all__ = [
    "Starts",
    "axes",
    "directions",
    "drawn_starts",
    "extremes",
    "interpolations",
    "nearest",
    "reconstructions",
    "rendered",
    "samples",
    "spherical",
    "temperatures",
    "validation_starts",
]

_PAIRS = 24
_EXTREMES = 6
_SAMPLES = 24
_LABEL_SAMPLES = 12
_ROW = 9
_AXES = 8
_WALKS = 5
_REACH = 2.5  # standard deviations to either side
_STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Starts:
    """Faces that walks through the latent space start from.

    Attributes:
        images: (N, H, W, C) uint8.
        latents: (N, Z).
    """

    images: Pixels
    latents: Latents


def validation_starts(measured: Measured) -> Starts:
    """The validation faces."""
    return Starts(measured.sets.real, measured.encoded.mean)


def drawn_starts(subject: Subject, measured: Measured) -> Starts:
    """Samples from the main prior: nobody's faces."""
    images = subject.sample(measured.sets.main, _SAMPLES)
    return Starts(images, subject.encode(images).mean)


def reconstructions(measured: Measured) -> str:
    """The first validation faces, each beside its reconstruction."""
    return _pairs(measured, np.arange(min(_PAIRS, len(measured.psnr))))


def extremes(measured: Measured) -> str:
    """The best, the middle and the worst reconstructions."""
    order = np.argsort(-measured.psnr)
    count = min(_EXTREMES, len(order))
    middle = (len(order) - count) // 2
    parts = {
        "Best": order[:count],
        "In the middle": order[middle : middle + count],
        "Worst": order[len(order) - count :],
    }
    return "".join(f"<h3>{name}</h3>{_pairs(measured, rows)}" for name, rows in parts.items())


def samples(subject: Subject, measured: Measured) -> str:
    """Samples of every prior out of the same noise; fewer of labels."""
    parts = []
    for prior in dict.fromkeys((measured.sets.main, "normal", *subject.facts.priors)):
        whole = prior in (measured.sets.main, "normal")
        images = subject.sample(prior, _SAMPLES if whole else _LABEL_SAMPLES)
        grid = _grid(images, f"sample, {prior}", large=whole)
        parts.append(f"<h3>{escape(_prior_title(prior))}</h3>{grid}")
    return "".join(parts)


def rendered(comparison: Comparison) -> str:
    """Pictures that were not made here."""
    sets = comparison.sets
    return _grid(sets.fake[sets.main][:_SAMPLES], "rendered", large=True)


def temperatures(subject: Subject, measured: Measured, chosen: tuple[float, ...]) -> str:
    """The same samples of the main prior at rising temperature."""
    rows = [
        (f"{it:g}", subject.sample(measured.sets.main, _LABEL_SAMPLES, temperature=it))
        for it in sorted({*chosen, 1.0})
    ]
    return _labelled([(f"temperature {name}", images) for name, images in rows])


def axes(subject: Subject, measured: Measured) -> str:
    """The mean face moved along the latents' principal axes."""
    means = measured.latents.mean.astype(np.float64)
    center = means.mean(axis=0)
    covariance = np.cov(means, rowvar=False).reshape(len(center), len(center))
    variances, vectors = np.linalg.eigh(covariance)
    rows = []
    for index in range(min(_AXES, len(center))):
        variance, axis = max(variances[-1 - index], 0.0), vectors[:, -1 - index]
        steps = np.linspace(-_REACH, _REACH, _ROW)[:, None] * np.sqrt(variance) * axis
        share = variance / max(variances.sum(), 1e-12)
        rows.append((f"axis {index + 1}, {share:.1%} of the variance", _moved(center, steps)))
    return _labelled([(title, subject.decode(latents)) for title, latents in rows])


def directions(subject: Subject, starts: Starts) -> str:
    """Faces moved along the directions of labels, a face a label."""
    names = [it for it in subject.directions if not it.startswith("component-")]
    rows = []
    for index, name in enumerate(names):
        start = starts.latents[index % len(starts.latents)]
        steps = np.array(_STRENGTHS)[:, None] * subject.directions[name]
        rows.append((name.replace("_", " "), subject.decode(_moved(start, steps))))
    return f"<div class=columns>{''.join(_labelled([it]) for it in rows)}</div>" if rows else ""


def interpolations(subject: Subject, starts: Starts) -> str:
    """Spherical paths between latents of pairs of faces, the faces at the ends."""
    faces, latents = starts.images, starts.latents
    rows = []
    for index in range(min(_WALKS, len(latents) // 2)):
        start, end = 2 * index, 2 * index + 1
        images = subject.decode(spherical(latents[start], latents[end], count=_ROW))
        rows.append(np.concatenate([faces[start : start + 1], images, faces[end : end + 1]]))
    strips = "".join(strip(it, "from one face to another") for it in rows)
    return f"<div class=rows>{strips}</div>" if strips else ""


def nearest(found: Nearest) -> str:
    """Samples, each followed by the training faces nearest to it."""
    cells = []
    for sample, faces, distances in zip(found.samples, found.faces, found.distances, strict=True):
        images = np.concatenate([sample[None], faces])
        cells.append(
            f"<figure>{strip(images, 'a sample and its nearest training faces')}"
            f"<figcaption>{', '.join(f'{it:.1f}' for it in distances)}</figcaption></figure>"
        )
    return f"<div class=nearest>{''.join(cells)}</div>"


def _pairs(measured: Measured, rows: NDArray[np.intp]) -> str:
    sets = measured.sets
    cells = [
        f"<figure class=pair>{picture(sets.real[row], 'original')}"
        f"{picture(sets.fake['reconstruction'][row], 'reconstruction')}"
        f"<figcaption>{measured.psnr[row]:.1f} dB</figcaption></figure>"
        for row in rows
    ]
    return f"<div class=pairs>{''.join(cells)}</div>"


def _grid(images: Pixels, text: str, *, large: bool) -> str:
    kind = "faces large" if large else "faces"
    return f'<div class="{kind}">{"".join(picture(it, text) for it in images)}</div>'


def _labelled(rows: list[tuple[str, Pixels]]) -> str:
    lines = "".join(f"<span>{escape(name)}</span>{strip(it, name)}" for name, it in rows)
    return f"<div class=labelled>{lines}</div>"


def _moved(start: NDArray[np.floating], steps: NDArray[np.floating]) -> Latents:
    return (start + steps).astype(np.float32)


def spherical(start: Latents, end: Latents, *, count: int) -> Latents:
    """Latents (count, Z) on the great circle: Shoemake (1985), Animating rotation."""
    weights = np.linspace(0, 1, count)[:, None]
    norms = max(float(np.linalg.norm(start) * np.linalg.norm(end)), 1e-12)
    angle = float(np.arccos(np.clip(start @ end / norms, -1, 1)))
    if angle < 1e-3:
        return ((1 - weights) * start + weights * end).astype(np.float32)
    path = np.sin((1 - weights) * angle) * start + np.sin(weights * angle) * end
    return np.asarray(path / np.sin(angle), np.float32)


def _prior_title(prior: str) -> str:
    return {"mixture": "The fitted mixture", "normal": "N(0, I)"}.get(prior, prior)
