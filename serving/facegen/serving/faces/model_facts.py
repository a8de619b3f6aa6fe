"""What the parameters of a family's models say, each checked as it is read."""

import json
import math
from collections.abc import Sequence

from facegen.serving.engine import ModelInfo
from facegen.serving.errors import FamilyError

__all__ = [
    "check_equal",
    "crop_fraction_of",
    "face_frame_of",
    "image_size_of",
    "latent_size_of",
    "mesh_size_of",
    "metrics_of",
    "parameter",
    "template_of",
]

_POINT_COUNT = 5


def parameter(family: str, model: ModelInfo, key: str) -> str:
    """Read a parameter that must be there.

    Raises:
        FamilyError: It is missing or empty; the other functions here raise it likewise.
    """
    value = model.parameters.get(key, "")
    if not value:
        raise FamilyError(family, f'model "{model.name}" has no parameter "{key}"')
    return value


def check_equal(family: str, models: Sequence[ModelInfo], key: str) -> None:
    """Refuse models that contradict each other in a parameter, or lack it."""
    values = {model.name: parameter(family, model, key) for model in models}
    if len(set(values.values())) > 1:
        said = ", ".join(f"{name} says {value}" for name, value in values.items())
        raise FamilyError(family, f'its models contradict each other in "{key}": {said}')


def latent_size_of(family: str, model: ModelInfo) -> int:
    """Read how many coordinates a latent has."""
    value = parameter(family, model, "facegen.latent_size")
    if not (value.isascii() and value.isdecimal() and int(value) > 0):
        raise FamilyError(family, f'"facegen.latent_size" is "{value}", no positive number')
    return int(value)


def image_size_of(family: str, model: ModelInfo) -> tuple[int, int, int]:
    """Read the shape (H, W, C) of the family's pictures."""
    value = parameter(family, model, "facegen.image_size")
    parts = value.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise FamilyError(family, f'"facegen.image_size" is "{value}", not like "64x64x3"')
    height_px, width_px, channel_count = (int(part) for part in parts)
    if not height_px or not width_px or channel_count not in (1, 3):
        raise FamilyError(family, f'"facegen.image_size" is "{value}": an empty or odd picture')
    return height_px, width_px, channel_count


def mesh_size_of(family: str, model: ModelInfo) -> tuple[int, int]:
    """Read how many vertices and triangles the family's meshes have."""
    value = parameter(family, model, "facegen.mesh_size")
    parts = value.split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise FamilyError(family, f'"facegen.mesh_size" is "{value}", not like "5000x9806"')
    vertex_count, face_count = (int(part) for part in parts)
    if vertex_count < 3 or face_count < 1:
        raise FamilyError(family, f'"facegen.mesh_size" is "{value}": no mesh has so few')
    return vertex_count, face_count


def crop_fraction_of(family: str, model: ModelInfo) -> float:
    """Read which part of a data-set picture the models see; all of it if nothing is said."""
    value = model.parameters.get("facegen.crop", "1")
    try:
        fraction = float(value)
    except ValueError:
        fraction = math.nan
    if not 0 < fraction <= 1:
        raise FamilyError(family, f'"facegen.crop" is "{value}", no fraction above 0 and at most 1')
    return fraction


def face_frame_of(family: str, model: ModelInfo) -> tuple[float, float, float] | None:
    """Read where a detector's box lies in the square that the models see; None if nothing is said.

    Returns:
        x and y of its middle and its side, in the square's sides.
    """
    value = model.parameters.get("facegen.face_frame")
    if value is None:
        return None
    try:
        x, y, side = (float(number) for number in json.loads(value))
    except (ValueError, TypeError):
        x = y = side = math.nan
    if not (0 < x < 1 and 0 < y < 1 and side > 0):
        raise FamilyError(
            family,
            f'"facegen.face_frame" of "{model.name}" is {value}, no [x, y, side] of a box with its '
            "middle in the unit square",
        )
    return x, y, side


def metrics_of(family: str, model: ModelInfo) -> dict[str, float]:
    """Read the measured qualities by name."""
    value = model.parameters.get("facegen.metrics", "{}")
    try:
        metrics = json.loads(value)
        return {str(name): float(number) for name, number in metrics.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise FamilyError(
            family, f'"facegen.metrics" of "{model.name}" is no JSON object of numbers: {error}'
        ) from error


def template_of(family: str, model: ModelInfo) -> tuple[tuple[float, float], ...]:
    """Read where the aligner's five points lie in a picture, (x, y) in [0, 1]²."""
    value = parameter(family, model, "facegen.template")
    try:
        points = tuple((float(x), float(y)) for x, y in json.loads(value))
    except (ValueError, TypeError) as error:
        raise FamilyError(
            family, f'"facegen.template" of "{model.name}" is no JSON list of points: {error}'
        ) from error
    inside = all(0 <= axis <= 1 for point in points for axis in point)
    if len(points) != _POINT_COUNT or not inside or len(set(points)) < _POINT_COUNT:
        raise FamilyError(
            family,
            f'"facegen.template" of "{model.name}" must be {_POINT_COUNT} different points of the '
            f"unit square, is {value}",
        )
    return points
