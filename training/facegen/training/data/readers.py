"""Which reader reads what, and where its data set lies below a data folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from facegen.training.data.celeba import read_celeba
from facegen.training.data.dataset import Dataset
from facegen.training.data.fer import read_fer
from facegen.training.data.folder import read_folder
from facegen.training.data.lfw import read_lfw

__all__ = ["read_dataset"]

_READERS: dict[str, tuple[Callable[[Path], Dataset], tuple[str, ...]]] = {
    "celeba": (read_celeba, ("celeba", "CelebA")),
    "lfw": (read_lfw, ("lfw", "LFW")),
    "fer": (read_fer, ("ferplus", "fer2013", "FER2013")),
    "folder": (read_folder, ()),
}
_ALIGNED = "-aligned"


def read_dataset(reader: str, root: Path) -> Dataset:
    """List a data set's pictures.

    Args:
        reader: "celeba", "lfw", "fer" or "folder"; with "-aligned" its faces are aligned.
        root: The data set's folder, or one that holds it under its usual name.

    Returns:
        The pictures, not decoded.

    Raises:
        DatasetError: Missing or broken; right once the files are in place.
    """
    read, names = _READERS[reader.removesuffix(_ALIGNED)]
    places = (root / name for name in names if (root / name).is_dir())
    dataset = read(next(places, root))
    return replace(dataset, name=reader, aligned=True) if reader.endswith(_ALIGNED) else dataset
