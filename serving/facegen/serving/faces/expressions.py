"""What a family of expressions has beside encoder and priors: decoders, an aligner, a template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facegen.serving.engine import ModelInfo
from facegen.serving.errors import FamilyError
from facegen.serving.faces.model_facts import (
    check_equal,
    image_size_of,
    parameter,
    template_of,
)

__all__ = ["ALIGNER_SIZE_PX", "CELLS", "Expressions", "expressions_of"]

ALIGNER_SIZE_PX = 64
"""Side of the squares in which the aligner looks for points."""
_GRID = 12
# Cells a side of mask and flow; other models may have other numbers.
CELLS = 24
"""Cells a side of features, masks and flows."""

# As they are told and drawn: the supported ones of the papers first, then those of little data.
_ORDER = (
    *("neutral", "happiness", "surprise", "sadness", "anger"),
    *("fear", "disgust", "contempt"),
)


@dataclass(frozen=True, slots=True)
class Expressions:
    """How a family gives faces other expressions.

    Attributes:
        decoders: The names of its decoders' models by expression: the supported ones, the default
            first, then the experimental ones.
        experimental: The expressions of poor quality.
        aligner: The name of the model that finds the points of a face.
        template: Where these points lie in an aligned picture, (x, y) in [0, 1]².
        feature_count: Features of a cell.
    """

    decoders: Mapping[str, str]
    experimental: tuple[str, ...]
    aligner: str
    template: tuple[tuple[float, float], ...]
    feature_count: int

    @property
    def supported(self) -> tuple[str, ...]:
        """The expressions of good quality; at least one."""
        return tuple(name for name in self.decoders if name not in self.experimental)

    @property
    def default(self) -> str:
        """The expression drawn where a request names none."""
        return next(iter(self.decoders))

    def no_features(self, rows: int) -> NDArray[np.float32]:
        """Give what a decoder needs in place of a picture's features: (rows, F, 12, 12)."""
        return np.zeros((rows, self.feature_count, _GRID, _GRID), np.float32)


def expressions_of(
    family: str, *, encoder: ModelInfo, decoders: Sequence[ModelInfo], aligner: ModelInfo
) -> Expressions:
    """Gather the expressions of a family.

    Raises:
        FamilyError: A parameter is missing or wrong, or two models contradict each other.
    """
    models = (encoder, *decoders, aligner)
    check_equal(family, models, "facegen.template")
    height_px, width_px, channel_count = image_size_of(family, encoder)
    if height_px != width_px or channel_count != 1:
        raise FamilyError(family, "its pictures are not grey squares, which expressions need")
    by_expression: dict[str, ModelInfo] = {}
    for model in decoders:
        name = parameter(family, model, "facegen.expression")
        if name in by_expression:
            both = f'"{by_expression[name].name}" and "{model.name}"'
            raise FamilyError(family, f'{both} both draw "{name}"')
        by_expression[name] = model
    experimental = {
        name
        for name, model in by_expression.items()
        if model.parameters.get("facegen.experimental") == "true"
    }
    if len(experimental) == len(by_expression):
        raise FamilyError(family, "all its expressions are experimental; one must be supported")
    names = sorted(by_expression, key=lambda name: (name in experimental, *_place(name)))
    return Expressions(
        decoders={name: by_expression[name].name for name in names},
        experimental=tuple(name for name in names if name in experimental),
        aligner=aligner.name,
        template=template_of(family, aligner),
        feature_count=_feature_count(family, models[:-1]),
    )


def _place(expression: str) -> tuple[int, str]:
    """Say where an expression is told among others; unknown ones come last, by name."""
    known = expression in _ORDER
    return (_ORDER.index(expression) if known else len(_ORDER)), expression


def _feature_count(family: str, models: Sequence[ModelInfo]) -> int:
    """Read the features of a cell, in which encoder and decoders must agree."""
    shapes = {
        model.name: tensor.shape
        for model in models
        for tensor in (*model.inputs, *model.outputs)
        if tensor.name == "features" and tensor.dtype == np.float32
    }
    if len(shapes) < len(models) or len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "none"
        raise FamilyError(
            family, f'its encoder and decoders need the same float32 "features": {said}'
        )
    shape = next(iter(shapes.values()))
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != (_GRID, _GRID):
        raise FamilyError(family, f'"features" are {list(shape)}, not [F, {_GRID}, {_GRID}]')
    return shape[0]
