"""How to export: what `facegen export` takes beside the run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from facegen.export.config import BatchingOptions
from facegen.export.flavour import TritonBackend
from facegen.export.selection import Measurement

__all__ = ["ExportOptions"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    Attributes:
        storage: How the files keep large weights; None takes int8 for the encoder of an
            autoencoder, most of a family's bytes, float32 for the graphs of meshes, whose
            millimetres float16 would blur, and float16 for every other graph.
        aligner: The run folder of the aligner that goes with a family of expressions.
        picture_count: Rows to check with, made from as many real validation pictures or meshes as
            there are.
        measurement: How to time the forms of a graph.
        batching: What config.pbtxt says of batching.
        triton_backend: The backend of Triton that shall run the graphs; facegen's server reads what
            is written for `onnxruntime`.
    """

    storage: Literal["float16", "float32"] | None = None
    aligner: Path | None = None
    picture_count: int = 64
    measurement: Measurement = field(default_factory=Measurement)
    batching: BatchingOptions = field(default_factory=BatchingOptions)
    triton_backend: TritonBackend = "onnxruntime"
