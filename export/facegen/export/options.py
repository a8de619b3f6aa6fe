"""How to export: what `facegen export` takes beside the run."""

from dataclasses import dataclass, field
from pathlib import Path

from facegen.export.config import BatchingOptions
from facegen.export.flavour import TritonBackend
from facegen.export.half_storage import Storage
from facegen.export.selection import Measurement

__all__ = ["ExportOptions"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    Attributes:
        encoder_storage: How the files of encoder and aligner keep their weights.
        decoder_storage: How the decoders' files keep theirs; None takes float32, and float16 for a
            family of expressions, whose many decoders are most of its bytes.
        aligner: The run folder of the aligner that goes with a family of expressions.
        picture_count: Rows to check with, made from as many real validation pictures as there are.
        measurement: How to time the forms of a graph.
        batching: What config.pbtxt says of batching.
        triton_backend: The backend of Triton that shall run the graphs; facegen's server reads what
            is written for `onnxruntime`.
    """

    encoder_storage: Storage = "float16"
    decoder_storage: Storage | None = None
    aligner: Path | None = None
    picture_count: int = 64
    measurement: Measurement = field(default_factory=Measurement)
    batching: BatchingOptions = field(default_factory=BatchingOptions)
    triton_backend: TritonBackend = "onnxruntime"
