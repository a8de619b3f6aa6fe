"""What a face would look like with another expression: the teacher of edits.

An active appearance model (Cootes et al. 2001, https://doi.org/10.1109/34.927467) tells the shape
of a face from its texture, the picture warped to a shape that all share. Between expressions both
move by optimal transport. Textures of one shape can be averaged and stay lips, teeth and wrinkles,
which pictures cannot.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from torch import Tensor, nn
from torch.nn import functional

from facegen.training.expression.shapes import JAW, LIPS, mirror_shapes
from facegen.training.expression.transport import GaussianTransport

__all__ = ["AppearanceTransport", "ShapedFaces", "Taught"]

_SHAPE_COMPONENTS = 24
_TEXTURE_COMPONENTS = 80
_SIDE_PX = 48
"""Of textures."""
_FRAME = (-0.25, -0.05, 1.25, 1.25)
"""Left, top, right, bottom of a frame that never moves: hair begins at the top of the square."""
_FRAME_POINTS = 8
"""On each side."""
_UPPER_LIP, _LOWER_LIP = [61, 62, 63], [67, 66, 65]
_SUBPIXELS = 4
_CHUNK = 500
_MOST_TURNED = 0.15
"""How far the tip of the nose may be from the middle of the jaw's ends, in the square's sides."""
_CLEAREST = 0.4
"""The share of such faces, those with the most votes, that say what an expression looks like."""
_LEAST_CLEAREST = 20


@dataclass(frozen=True, slots=True)
class _Prototype:
    """How an expression is to look, of the ways in which people show it.

    The mean of an open and a closed mouth is neither.

    Attributes:
        opening: The least and most distance of the inner lips, in the square's sides.
        gain: How far faces go from their own expression to this one; past 1 is past its mean.
    """

    opening: tuple[float, float] = (0.0, 1.0)
    gain: float = 1.2

    @property
    def closed(self) -> bool:
        return self.opening[1] < 0.03


_PROTOTYPES: Mapping[str, _Prototype] = {
    "neutral": _Prototype((0.0, 0.02)),
    "happiness": _Prototype((0.04, 0.115), gain=1.0),
    "surprise": _Prototype((0.06, 0.17), gain=1.0),
    "sadness": _Prototype((0.0, 0.027), gain=1.7),
    "anger": _Prototype((0.05, 0.17)),
    "fear": _Prototype((0.02, 0.12), gain=1.3),
}


class ShapedFaces(NamedTuple):
    """Faces with the expressions that most of their taggers saw.

    Attributes:
        images: (N, 48, 48, 1) uint8.
        shapes: (N, 68, 2) in the square's sides.
        labels: (N,).
        shares: (N,): the share of the votes for the label.
    """

    images: NDArray[np.uint8]
    shapes: NDArray[np.float32]
    labels: NDArray[np.int64]
    shares: NDArray[np.float32]


class Taught(NamedTuple):
    """What an edit should do.

    Attributes:
        picture: (B, 1, H, W) in [0, 1].
        flow: (B, 2, H, W): where each pixel comes from, to the right and down of its own place, in
            the square's sides.
        lips: (B, 1, H, W) in [0, 1]: where the mouth is, in the picture taught.
    """

    picture: Tensor
    flow: Tensor
    lips: Tensor


class AppearanceTransport(nn.Module):
    """Gives faces another expression by the least change of shape and texture.

    Args:
        faces: As many as there are; each expression needs some.
        expressions: What their labels stand for.
    """

    triangles: Tensor
    template: Tensor
    inside: Tensor
    mouth: Tensor
    gains: Tensor
    closed: Tensor
    seen: Tensor

    def __init__(self, faces: ShapedFaces, expressions: Sequence[str]) -> None:
        super().__init__()
        prototypes = [_PROTOTYPES.get(name, _Prototype()) for name in expressions]
        groups = [np.flatnonzero(faces.labels == k) for k in range(len(expressions))]
        clearest = [_clearest(faces, *pair) for pair in zip(groups, prototypes, strict=True)]
        shapes = torch.from_numpy(faces.shapes)
        both = torch.stack([shapes, mirror_shapes(shapes)], 1)  # (N, 2, 68, 2)
        template = _template([both[group].numpy() for group in groups])
        triangles = _triangles(_framed(template))
        self.register_buffer("triangles", torch.from_numpy(triangles), persistent=False)
        self._keep("template", _framed(template))
        self._keep("inside", _face_mask(template))
        self._keep("mouth", _blurred(_polygon(template[LIPS]), 0.02))
        self._keep("gains", [prototype.gain for prototype in prototypes])
        self._keep("closed", [prototype.closed for prototype in prototypes])
        seen = (self.inside > 0.05).flatten()
        self.register_buffer("seen", seen, persistent=False)
        self._places = self._where(self.template[None], _SIDE_PX)

        pictures = torch.from_numpy(faces.images).permute(0, 3, 1, 2)
        textures = np.concatenate(
            [
                torch.stack([self._normalised(t)[0] for t in (some, some.flip(2))], 1).numpy()
                for some in self._textures(pictures, shapes)
            ]
        )  # (N, 2, D)
        flat = both.flatten(2).numpy()
        self.shapes, self.textures = (
            GaussianTransport(
                [values[g].reshape(-1, values.shape[2]) for g in groups],
                [values[g].reshape(-1, values.shape[2]) for g in clearest],
                components=components,
            )
            for values, components in ((flat, _SHAPE_COMPONENTS), (textures, _TEXTURE_COMPONENTS))
        )

    @torch.no_grad()
    def forward(self, x: Tensor, shapes: Tensor, sources: Tensor, targets: Tensor) -> Taught:
        """Give faces other expressions.

        Args:
            x: (B, 1, 48, 48) in [0, 1].
            shapes: (B, 68, 2) of the same faces.
            sources: (B,): the expressions they have.
            targets: (B,): the expressions to give them.
        """
        size = x.shape[-1]
        framed, moved = (
            self._with_frame(s) for s in (shapes, self._moved(shapes, sources, targets))
        )
        where = self._where(moved, size)
        places = self._follow(where, framed)
        grid = _pixel_centres(size).to(x)
        texture = self._texture(x, framed)
        values, scale = self._normalised(texture)
        change = self.gains[targets, None] * (self.textures(values, sources, targets) - values)
        change = self._spread(change * scale) * self.inside
        # In a mouth, what no component holds are teeth of another expression.
        rest = self._spread(self.textures.beyond(values) * scale) * self.mouth
        in_template = self._follow(where, self.template.expand_as(moved))
        maps = torch.stack([change - rest, self.mouth.expand_as(change)], 1)
        painted, lips = _sample(maps, in_template, mode="bilinear").chunk(2, 1)
        picture = (_sample(x, places) + painted).clamp(0, 1)
        return Taught(picture, (places - grid).permute(0, 3, 1, 2), lips)

    def _moved(self, shapes: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
        flat = shapes.flatten(1)
        change = (self.shapes(flat, sources, targets) - flat).view_as(shapes)
        gains = self.gains[targets, None, None].repeat(1, shapes.shape[1], 1)
        gains[:, JAW] = gains[:, JAW].clamp(max=1)  # a chin farther up is another chin
        moved: Tensor = shapes + gains * change
        upper, lower = moved[:, _UPPER_LIP], moved[:, _LOWER_LIP]
        middle = (upper + lower) / 2
        half = (lower - upper) / 2 * (1 - self.closed[targets, None, None])
        half = torch.stack([half[..., 0], half[..., 1].clamp(min=0)], -1)
        moved[:, _UPPER_LIP], moved[:, _LOWER_LIP] = middle - half, middle + half
        return moved

    def _with_frame(self, shapes: Tensor) -> Tensor:
        frame = self.template[shapes.shape[1] :]
        return torch.cat([shapes, frame.expand(len(shapes), -1, -1)], 1)

    def _where(self, points: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The triangles of framed shapes (B, P, 2) that pixels lie in, and their places there.

        Returns:
            Corners (B, size, size, 3), and weights of these that add up to 1.
        """
        found = [_rasterise(p, self.triangles.cpu().numpy(), size) for p in points.cpu().numpy()]
        corners = self.triangles[torch.from_numpy(np.stack(found)).to(points.device)]
        a, b, c = (_gather(points, corner) for corner in corners.unbind(-1))
        across, down, offset = b - a, c - a, _pixel_centres(size).to(points) - a
        area = _cross(across, down)
        area = torch.where(area.abs() < 1e-7, torch.ones_like(area), area)
        second, third = _cross(offset, down) / area, _cross(across, offset) / area
        weights = torch.stack([1 - second - third, second, third], -1).clamp(0, 1)
        return corners, weights / weights.sum(-1, keepdim=True)

    @staticmethod
    def _follow(where: tuple[Tensor, Tensor], points: Tensor) -> Tensor:
        """Where those places are in other framed shapes (B, P, 2): (B, size, size, 2)."""
        corners, weights = where
        parts = [_gather(points, corner) for corner in corners.unbind(-1)]
        return sum(
            (w[..., None] * part for w, part in zip(weights.unbind(-1), parts, strict=True)),
            torch.zeros_like(parts[0]),
        )

    def _texture(self, x: Tensor, framed: Tensor) -> Tensor:
        corners, weights = (part.expand(len(x), -1, -1, -1) for part in self._places)
        places = self._follow((corners.to(x.device), weights.to(x)), framed)
        return _sample(x, places)[:, 0]

    def _textures(self, pictures: Tensor, shapes: Tensor) -> Iterator[Tensor]:
        for start in range(0, len(pictures), _CHUNK):
            some, their = (part[start : start + _CHUNK] for part in (pictures, shapes))
            yield self._texture(some.float() / 255, self._with_frame(their))

    def _normalised(self, textures: Tensor) -> tuple[Tensor, Tensor]:
        """Textures (B, H, W) to (B, D) of mean 0 and deviation 1, and what they were scaled by."""
        values = textures.flatten(1)[:, self.seen]
        scale = values.std(1, keepdim=True).clamp(min=0.05)
        return (values - values.mean(1, keepdim=True)) / scale, scale

    def _spread(self, values: Tensor) -> Tensor:
        """(B, D) to (B, H, W)."""
        textures = values.new_zeros(len(values), _SIDE_PX * _SIDE_PX)
        textures[:, self.seen] = values
        return textures.view(-1, _SIDE_PX, _SIDE_PX)

    def _keep(self, name: str, values: object) -> None:
        # Found again from the data; no part of checkpoints.
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        self.register_buffer(name, tensor, persistent=False)


def _clearest(
    faces: ShapedFaces, group: NDArray[np.int64], prototype: _Prototype
) -> NDArray[np.int64]:
    """Those of a group that show an expression best."""
    shapes = faces.shapes[group]
    opening = np.linalg.norm(shapes[:, 62] - shapes[:, 66], axis=1)
    turned = np.abs(shapes[:, 30, 0] - (shapes[:, 0, 0] + shapes[:, 16, 0]) / 2)
    least, most = prototype.opening
    fit = group[(opening >= least) & (opening <= most) & (turned < _MOST_TURNED)]
    best = fit[np.argsort(-faces.shares[fit], kind="stable")]
    count = max(_LEAST_CLEAREST, round(_CLEAREST * len(best)))
    return best[:count] if len(best) >= _LEAST_CLEAREST else group


def _template(groups: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """The mean shape (68, 2), its mouth and chin those of the expression that opens it most."""
    means = np.stack([group.reshape(-1, *group.shape[2:]).mean(0) for group in groups])
    widest = means[(means[:, 66, 1] - means[:, 62, 1]).argmax()]
    template: NDArray[np.float64] = means.mean(0).astype(np.float64)
    template[4:13], template[48:] = widest[4:13], widest[48:]
    return template


def _framed(shape: NDArray[np.float64]) -> NDArray[np.float64]:
    left, top, right, bottom = _FRAME
    across, down = (np.linspace(*ends, _FRAME_POINTS) for ends in ((left, right), (top, bottom)))
    frame = [(x, y) for x in across for y in down if x in (left, right) or y in (top, bottom)]
    return np.concatenate([shape, np.array(frame)])


def _triangles(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Delaunay's triangles (T, 3), all turning the same way."""
    triangles: NDArray[np.int64] = Delaunay(points).simplices.astype(np.int64)
    turned = _areas(points[triangles]) < 0
    triangles[turned] = triangles[turned][:, [0, 2, 1]]
    return triangles


def _areas(corners: NDArray[np.floating]) -> NDArray[np.floating]:
    """Twice the signed areas of triangles (T, 3, 2)."""
    across, down = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas: NDArray[np.floating] = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    return areas


def _polygon(corners: NDArray[np.float64]) -> NDArray[np.float32]:
    mask = np.zeros((_SIDE_PX * _SUBPIXELS,) * 2, np.float32)
    places = (corners * len(mask) * 16).round().astype(np.int32)
    cv2.fillPoly(mask, [places], 1.0, cv2.LINE_AA, 4)
    return mask


def _blurred(mask: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Blur a fine mask by a fraction of its side, and reduce it to (48, 48)."""
    blurred = cv2.GaussianBlur(mask, (0, 0), radius * len(mask))
    reduced: NDArray[np.float32] = cv2.resize(
        blurred, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA
    ).astype(np.float32)
    return reduced


def _face_mask(template: NDArray[np.float64]) -> NDArray[np.float32]:
    """1 within the face's outline, falling to 0 towards it."""
    hull = cv2.convexHull(template.astype(np.float32))[:, 0]
    fine = _polygon(hull.astype(np.float64))
    smaller = cv2.erode(fine, np.ones((9, 9), np.uint8)).astype(np.float32)
    return _blurred(smaller, 0.03)


def _rasterise(
    points: NDArray[np.floating], triangles: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Which of the triangles of points (P, 2) each pixel's centre lies in, (size, size)."""
    corners = points[triangles]  # (T, 3, 2)
    area = _areas(corners)
    fine = np.zeros((size * _SUBPIXELS,) * 2, np.int32)
    places = ((corners * len(fine) - 0.5) * 16).round().astype(np.int32)
    for index in np.argsort(-area):  # thin ones last: lips that nearly close
        if area[index] > 1e-6:
            cv2.fillConvexPoly(fine, places[index], int(index), lineType=4, shift=4)
    middle = _SUBPIXELS // 2
    return fine[middle::_SUBPIXELS, middle::_SUBPIXELS].astype(np.int64)


def _gather(points: Tensor, indices: Tensor) -> Tensor:
    """Points (B, P, 2) at indices (B, H, W): (B, H, W, 2)."""
    rows = torch.arange(len(points), device=points.device)[:, None, None]
    return points[rows, indices]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _pixel_centres(size: int) -> Tensor:
    place = (torch.arange(size) + 0.5) / size
    return torch.stack([*torch.meshgrid(place, place, indexing="xy")], -1)


def _sample(x: Tensor, places: Tensor, *, mode: str = "bicubic") -> Tensor:
    return functional.grid_sample(
        x, 2 * places - 1, mode=mode, padding_mode="border", align_corners=False
    )
