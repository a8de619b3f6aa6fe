"""The pictures of a report on meshes: what comes back, where it errs, samples, walks."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facegen.training.evaluation.gallery import spherical
from facegen.training.evaluation.subject import Latents
from facegen.training.mesh.colours import error_colours
from facegen.training.mesh.latents import decode_meshes
from facegen.training.mesh.measuring import MeasuredMeshes, MeasuredSplit
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.mesh.pictures import (
    comparison_sheet,
    error_limit_mm,
    sample_sheet,
    swing,
    traversal_gif,
    traversal_sheet,
)
from facegen.training.mesh.rendering import View, render
from facegen.training.mesh.sheets import beside_colour_bar, lay_out
from facegen.training.prior import MixturePrior

__all__ = ["Gallery", "MeshPictures", "principal_axes"]

_FIRST = 4
_AXES = 6
_REACH = 2.0  # standard deviations to either side
_FRAMES = 11
_AXIS_STEPS = 5
_WALK_STEPS = 7
_WALKS = 2
_SAMPLES = 16
_RIVALS = 8
_ROOM = 1.08  # large heads are larger than the mean one
_CARD_COLOURS = 256

Reals = NDArray[np.float32]
Picture = NDArray[np.uint8]


class MeshPictures(NamedTuple):
    """What a page shows.

    Attributes:
        first: Of each test split.
        ranked: Of the last split.
        errors: On the mean mesh.
        samples: By prior.
        moving: A walk along each axis of the latents, a GIF.
        still: The same in steps.
        walks: Between meshes of the last split; None where there are not two.
        drawn_walks: Between samples; None where the meshes may be shown to all.
    """

    first: Mapping[str, Picture]
    ranked: Picture
    errors: Picture
    samples: Mapping[str, Picture]
    moving: bytes
    still: Picture
    walks: Picture | None
    drawn_walks: Picture | None


@dataclass(frozen=True, slots=True)
class Gallery:
    """Draws a model's meshes, all of them in one view and all errors on one scale.

    Attributes:
        model: The model.
        prior: Its mixture.
        measured: What was found.
        faces: Triangles, (F, 3).
        view: The camera.
        limit_mm: The error of the last colour.
    """

    model: MeshAutoencoder
    prior: MixturePrior
    measured: MeasuredMeshes
    faces: NDArray[np.int32]
    view: View
    limit_mm: float

    @classmethod
    def of(cls, model: MeshAutoencoder, prior: MixturePrior, measured: MeasuredMeshes) -> Self:
        """Take the view from the model's mean mesh and the scale from its errors."""
        errors = [it.errors.ravel() for it in measured.tests.values()]
        view = View.around(model.template)
        return cls(
            model,
            prior,
            measured,
            model.hierarchy.faces[0],
            replace(view, half_mm=_ROOM * view.half_mm),
            error_limit_mm(np.concatenate(errors)),
        )

    def pictures(self, *, nobody: bool) -> MeshPictures:
        """All pictures of a page, each drawn once.

        Args:
            nobody: The meshes are nobody's: no walks between samples in their place are needed.
        """
        draws, count = self.measured.draws, 2 * _WALKS
        latents = self.prior.sample(draws.noise[:count], draws.uniform[:count])
        main = self.measured.splits[self.measured.main]
        return MeshPictures(
            {name: self.first(name) for name in self.measured.tests},
            self.ranked(self.measured.main),
            self.errors_on_template(),
            {name: self.samples(name) for name in ("mixture", "normal", "pca_gaussian")},
            self.axes_moving(),
            self.axes_still(),
            self.walks(main.vertices[:count], main.encoded.mean[:count]),
            None if nobody else self.walks(self._decoded(latents), latents),
        )

    def first(self, split: str) -> Picture:
        """The first meshes of a split, each beside what comes back and its error."""
        rows = np.arange(min(_FIRST, len(self.measured.splits[split].vertices)))
        return self._compared(self.measured.splits[split], rows, columns=2)

    def ranked(self, split: str) -> Picture:
        """The meshes of a split that come back best, in the middle and worst."""
        found = self.measured.splits[split]
        rows = np.array(list(found.ranked.values()))
        return self._compared(found, rows, columns=2, titles=tuple(found.ranked))

    def card(self) -> bytes:
        """The first meshes of the last split, for a card: a PNG of few colours, which is small."""
        found = self.measured.splits[self.measured.main]
        rows = np.arange(min(_FIRST, len(found.vertices)))
        sheet = Image.fromarray(self._compared(found, rows, columns=2, height_px=200))
        buffer = io.BytesIO()
        # The most frequent colours are clay's: chosen by frequency, few would be left for errors.
        coded = sheet.quantize(_CARD_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2)
        coded.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def errors_on_template(self) -> Picture:
        """Each vertex's mean error in colour on the mean mesh, of the model and of PCA."""
        tests, template = self.measured.tests, self.model.template
        titles, pictures, captions, means = [], [], [], []
        for name, split in tests.items():
            for title, errors in ((name, split.errors), (f"{name}, PCA", split.pca_errors)):
                titles.append(title)
                means.append(errors.mean(axis=0))
                captions.append(f"{means[-1].mean():.2f} mm")
        limit_mm = error_limit_mm(np.concatenate(means))
        for mean in means:
            colours = error_colours(mean, limit_mm)
            pictures.append(
                render(template, self.faces, view=self.view, height_px=256, colours=colours)
            )
        sheet = lay_out([pictures], above=titles, below=[captions], text_px=15)
        return beside_colour_bar(sheet, limit_mm=limit_mm, text_px=15)

    def samples(self, prior: str) -> Picture:
        """Samples of `mixture`, `normal` or `pca_gaussian`, out of the same noise."""
        draws, pca = self.measured.draws, self.measured.pca
        noise = draws.noise[: _RIVALS if prior == "pca_gaussian" else _SAMPLES]
        if prior == "pca_gaussian":
            meshes = pca.sample(noise[:, : len(pca.directions)])
        elif prior == "mixture":
            latents = self.prior.sample(noise, draws.uniform[: len(noise)])
            meshes = decode_meshes(self.model, latents)
        else:
            meshes = decode_meshes(self.model, noise)
        return sample_sheet(meshes, self.faces, view=self.view)

    def axes_moving(self) -> bytes:
        """The mean latent's mesh, moved along the principal axes of the latents: a GIF."""
        centre, axes, shares = principal_axes(self.prior)
        axes = axes[:_AXES]
        steps = swing(_FRAMES, _REACH)
        latents = centre + steps[:, None, None] * axes  # (T, K, Z)
        return traversal_gif(
            self._decoded(latents),
            self.faces,
            view=self.view,
            captions=[f"axis {i + 1}, {share:.0%}" for i, share in enumerate(shares[: len(axes)])],
        )

    def axes_still(self) -> Picture:
        """The same in steps, an axis a row."""
        centre, axes, shares = principal_axes(self.prior)
        axes = axes[:_AXES]
        steps = np.linspace(-_REACH, _REACH, _AXIS_STEPS)
        latents = centre + axes[:, None] * steps[:, None]  # (K, S, Z)
        return traversal_sheet(
            self._decoded(latents),
            self.faces,
            view=self.view,
            rows=[f"axis {i + 1}, {share:.0%}" for i, share in enumerate(shares[: len(axes)])],
            columns=[_deviations(it) for it in steps],
            height_px=176,
        )

    def walks(self, ends: Reals, latents: Latents) -> Picture | None:
        """Spherical paths between pairs of meshes, with the meshes at their ends.

        Args:
            ends: The meshes, (N, V, 3).
            latents: Theirs, (N, Z).

        Returns:
            A sheet, a path a row; None of fewer than two meshes.
        """
        rows = []
        for start in range(0, len(latents) - 1, 2):
            path = spherical(latents[start], latents[start + 1], count=_WALK_STEPS)
            rows.append(
                np.concatenate(
                    [ends[start : start + 1], self._decoded(path), ends[start + 1, None]]
                )
            )
        if not rows:
            return None
        captions = ["start", *(f"{it:.0%}" for it in np.linspace(0, 1, _WALK_STEPS)), "end"]
        return sample_sheet(
            np.concatenate(rows),
            self.faces,
            view=self.view,
            captions=captions * len(rows),
            columns=len(captions),
        )

    def _compared(
        self,
        split: MeasuredSplit,
        rows: NDArray[np.intp],
        *,
        columns: int,
        titles: tuple[str, ...] = (),
        height_px: int = 256,
    ) -> Picture:
        return comparison_sheet(
            split.vertices[rows],
            decode_meshes(self.model, split.encoded.mean[rows]),
            self.faces,
            view=self.view,
            limit_mm=self.limit_mm,
            titles=titles,
            columns=columns,
            height_px=height_px,
        )

    def _decoded(self, latents: NDArray[np.floating]) -> Reals:
        """Meshes (…, V, 3) of latents (…, Z)."""
        flat = latents.reshape(-1, latents.shape[-1]).astype(np.float32)
        meshes = decode_meshes(self.model, flat)
        return meshes.reshape(*latents.shape[:-1], *meshes.shape[1:])


def principal_axes(
    prior: MixturePrior,
) -> tuple[Latents, NDArray[np.float64], NDArray[np.float64]]:
    """The mean of a mixture, and the axes of its covariance.

    Args:
        prior: The mixture.

    Returns:
        The mean (Z,), axes as long as a standard deviation, the longest first (Z, Z), and their
        shares of the variance (Z,).
    """
    weights = prior.weights.astype(np.float64)
    weights /= weights.sum()
    centre = weights @ prior.means
    apart = prior.means - centre
    within = prior.scale_trils.astype(np.float64)
    covariance = np.einsum("k,kij,klj->il", weights, within, within)
    covariance += np.einsum("k,ki,kj->ij", weights, apart, apart)
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    axes = (vectors * np.sqrt(variances)).T
    return centre.astype(np.float32), axes, variances / max(variances.sum(), 1e-12)


def _deviations(value: float) -> str:
    return f"{value:+g}σ".replace("-", "−") if abs(value) > 1e-9 else "mean"
