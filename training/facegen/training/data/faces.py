"""A data set by its reader's name, as arrays a model can train on."""

from dataclasses import replace
from pathlib import Path

from facegen.training.data.aligned import load_aligned
from facegen.training.data.arrays import FaceArrays, load_frames
from facegen.training.data.readers import read_dataset

__all__ = ["load_faces"]


def load_faces(
    reader: str, root: Path, *, size_px: int, channels: int, crop: float | None = None
) -> FaceArrays:
    """Read and decode a data set, from the cache where it can.

    Args:
        reader: "celeba", "lfw", "fer" or "folder"; with "-aligned" its faces are aligned.
        root: The data set's folder, or one that holds it.
        size_px: Side of the square pictures.
        channels: 3 for RGB, 1 for grey.
        crop: The side of the central square to keep, as a fraction of the shorter side; None takes
            the data set's own.

    Returns:
        The pictures of every split.

    Raises:
        DatasetError: Missing, broken, or nothing to train or to validate on.
        ConfigurationError: Aligning needs a package that is missing.
    """
    dataset = read_dataset(reader, root)
    if crop is not None:
        dataset = replace(dataset, crop=crop)
    load = load_aligned if dataset.aligned else load_frames
    return load(dataset, size_px=size_px, channels=channels)
