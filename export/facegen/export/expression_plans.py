"""What is exported for each graph of a family of expressions, and what PyTorch's answer is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from facegen.export.checks import (
    LevelError,
    check_latents,
    check_levels,
    check_values,
    compare_levels,
)
from facegen.export.config import GraphRole
from facegen.export.expression_rewrites import expression_decoder_forms, expression_encoder_forms
from facegen.export.graphs import AlignerGraph, ExpressionDecoderGraph, ExpressionEncoderGraph
from facegen.export.plans import LATENT_LIMIT, GraphPlan, module_exporter
from facegen.export.runtime import Array, Rows, run_rows
from facegen.export.storage import Storage
from facegen.training.data.alignment import TEMPLATE, align
from facegen.training.expression.aligner import SQUARE_PX, Aligner, points_square
from facegen.training.expression.model import EXPRESSIONS, ExpressionModel

__all__ = [
    "ExpressionReference",
    "plan_aligner",
    "plan_expression_decoders",
    "plan_expression_encoder",
]

_EDIT_LIMITS: Mapping[Storage, Mapping[str, float]] = {
    "float32": {"mask": 1e-4, "flow": 1e-5},
    "float16": {"mask": 4e-3, "flow": 4e-4},
}
"""How far masks and flows may be from PyTorch's: with float16 one level of 255 of the widest
contrast, and a fiftieth of a pixel of 48."""

_POINT_LIMITS: Mapping[Storage, Mapping[str, float]] = {
    "float32": {"points": 1e-5},
    "float16": {"points": 1e-3},
}
"""How far points may be from PyTorch's: with float16 a fifteenth of a pixel of 64."""


@dataclass(frozen=True, slots=True)
class ExpressionReference:
    """What PyTorch makes of real faces.

    Attributes:
        model: In evaluation mode.
        images: (N, H, W, 1) uint8, aligned.
        outputs: The encoder's outputs by name: `mu`, `logvar`, `features`.
        edits: The decoders' outputs by expression, then by name, (2N, …): the faces' edits, then
            the contents that are drawn of their latents without features.
    """

    model: ExpressionModel
    images: Array
    outputs: Rows
    edits: Mapping[str, Rows]

    @classmethod
    def of(cls, model: ExpressionModel, images: Array) -> "ExpressionReference":
        """Run a model on aligned faces (N, H, W, 1) uint8."""
        with torch.no_grad():
            values = ExpressionEncoderGraph(model.encoder)(torch.from_numpy(images))
        names = ("mu", "logvar", "features")
        outputs = {name: value.numpy() for name, value in zip(names, values, strict=True)}
        rows = _decoder_rows(outputs)
        edits = {expression: _edit(model, expression, rows) for expression in model.decoders}
        return cls(model, images, outputs, edits)

    @property
    def decoder_rows(self) -> Rows:
        """What the decoders were given."""
        return _decoder_rows(self.outputs)


def plan_expression_encoder(reference: ExpressionReference, *, storage: Storage) -> GraphPlan:
    """Plan the graph from pictures to posteriors and features.

    It may differ from PyTorch's by what moves no pixel of any decoder by more than a level.
    """
    model, rows = reference.model, {"image": reference.images}

    def parity(name: str, session: onnxruntime.InferenceSession) -> LevelError:
        outputs = run_rows(session, rows)
        check_latents(name, outputs, reference.outputs, limit=LATENT_LIMIT[storage])
        decoder_rows = _decoder_rows(outputs)
        errors = [
            _check_edit(name, _edit(model, expression, decoder_rows), expected, storage)
            for expression, expected in reference.edits.items()
        ]
        return _worst(errors)

    return GraphPlan(
        role=GraphRole("encoder"),
        forms={
            form: module_exporter(
                ExpressionEncoderGraph, build, rows, outputs=tuple(reference.outputs)
            )
            for form, build in expression_encoder_forms(model.encoder).items()
        },
        rows=rows,
        parity=parity,
        storage=storage,
    )


def plan_expression_decoders(
    reference: ExpressionReference, *, storage: Storage
) -> tuple[GraphPlan, ...]:
    """Plan the graph of each expression from latents and features to edits."""
    return tuple(
        _plan_decoder(reference, expression, storage=storage)
        for expression in reference.model.decoders
    )


def _plan_decoder(
    reference: ExpressionReference, expression: str, *, storage: Storage
) -> GraphPlan:
    rows, expected = reference.decoder_rows, reference.edits[expression]

    def parity(name: str, session: onnxruntime.InferenceSession) -> LevelError:
        return _check_edit(name, run_rows(session, rows), expected, storage)

    decoder = reference.model.decoders[expression]
    return GraphPlan(
        role=GraphRole(
            "decoder", expression=expression, experimental=expression not in EXPRESSIONS
        ),
        forms={
            form: module_exporter(ExpressionDecoderGraph, build, rows, outputs=tuple(expected))
            for form, build in expression_decoder_forms(decoder).items()
        },
        rows=rows,
        parity=parity,
        storage=storage,
    )


def plan_aligner(aligner: Aligner, images: Array, *, storage: Storage) -> GraphPlan:
    """Plan the graph from squares around faces to points.

    Args:
        aligner: In evaluation mode.
        images: (N, H, W, 1) uint8, aligned: the squares are cut around them.
        storage: How its file keeps large weights.
    """
    place = points_square(TEMPLATE * images.shape[1])
    squares = np.stack([align(image[..., 0], place, size_px=SQUARE_PX) for image in images])
    rows = {"image": squares[..., None]}
    with torch.no_grad():
        expected = {"points": AlignerGraph(aligner)(torch.from_numpy(rows["image"])).numpy()}

    def parity(name: str, session: onnxruntime.InferenceSession) -> None:
        check_values(name, run_rows(session, rows), expected, limits=_POINT_LIMITS[storage])

    return GraphPlan(
        role=GraphRole("aligner"),
        forms={
            "plain": module_exporter(AlignerGraph, lambda: aligner, rows, outputs=("points",)),
        },
        rows=rows,
        parity=parity,
        storage=storage,
    )


def _decoder_rows(outputs: Rows) -> Rows:
    """The latents of all faces twice, with their features and without."""
    mu, features = outputs["mu"], outputs["features"]
    return {
        "latent": np.concatenate([mu, mu]),
        "features": np.concatenate([features, np.zeros_like(features)]),
    }


def _edit(model: ExpressionModel, expression: str, rows: Rows) -> Rows:
    graph = ExpressionDecoderGraph(model.decoders[expression])
    with torch.no_grad():
        values = graph(*(torch.from_numpy(rows[name]) for name in ("latent", "features")))
    names = ("image", "mask", "flow")
    return {name: value.contiguous().numpy() for name, value in zip(names, values, strict=True)}


def _check_edit(name: str, found: Rows, expected: Rows, storage: Storage) -> LevelError:
    check_values(name, found, expected, limits=_EDIT_LIMITS[storage])
    return check_levels(name, compare_levels(found["image"], expected["image"]))


def _worst(errors: Sequence[LevelError]) -> LevelError:
    """The largest error of all, and the mean of the means."""
    mean = float(np.mean([error.mean for error in errors]))
    return LevelError(max(error.largest for error in errors), mean)
