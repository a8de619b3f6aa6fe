"""Whether an edited face is still the same person, by a network made for recognising people."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dlib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from facegen.training.data.alignment import align, square_to_picture
from facegen.training.expression.distortions import blur
from facegen.training.expression.sources import Pixels

__all__ = ["IDENTITY_NETWORK", "IdentityNetwork", "Query", "measure_identity"]

IDENTITY_NETWORK = "dlib's face recognition ResNet v1, 128 values, 150 × 150 chips, no jitter"
_PACKAGE = "face_recognition_models"
_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
_CHIP_PX = 150
_THRESHOLD = 0.6  # dlib's own: 99.38 % on LFW, at its resolution
_FALSE_SHARE = 0.01

# Where `get_face_chip` puts the five points with its padding of a quarter, in chips of side 1.
_CHIP_POINTS = (
    0.25
    + np.array(
        [
            [0.8595674595992, 0.2134981538014],
            [0.6460604764104, 0.2289674387677],
            [0.1205750620789, 0.2137274526848],
            [0.3340850613712, 0.2290642403242],
            [0.4901123135679, 0.6277975316475],
        ]
    )
) / 1.5


class IdentityNetwork:
    """The embedding of face-recognition-models, for faces in our own alignment.

    King (2017), http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html.

    Raises:
        ModuleNotFoundError: Its package is not installed.
    """

    def __init__(self) -> None:
        # Only found, never imported: its module needs pkg_resources, which setuptools has dropped.
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
        file = Path(spec.submodule_search_locations[0]) / _FILE
        self.sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        self._network = dlib.face_recognition_model_v1(str(file))
        to_chip = np.vstack([square_to_picture(_CHIP_POINTS), [0, 0, 1]])
        self._from_chip = np.linalg.inv(to_chip)[:2]  # the chip's square to ours

    def chips(self, images: Pixels) -> Pixels:
        """Move aligned faces (N, H, H, 1 or 3) to the network's places, (N, 150, 150, 3)."""
        matrix = self._from_chip * images.shape[1]
        cut = [align(image, matrix, size_px=_CHIP_PX) for image in images]
        stacked = np.array(cut, dtype=np.uint8).reshape(len(images), _CHIP_PX, _CHIP_PX, -1)
        return np.ascontiguousarray(np.broadcast_to(stacked, (*stacked.shape[:3], 3)))

    def of_images(self, images: Pixels) -> NDArray[np.float64]:
        """Embed aligned faces (N, H, H, 1 or 3), (N, 128)."""
        if not len(images):
            return np.empty((0, 128))
        return self.of_chips(self.chips(images))

    def of_chips(self, chips: Pixels) -> NDArray[np.float64]:
        """Embed faces that lie as the network has them, (N, 150, 150, 3) uint8, (N, 128)."""
        return np.array(self._network.compute_face_descriptor(list(chips), 0))


class Query(NamedTuple):
    """Edited faces, (N, H, W, C), and the gallery's rows that they were made from, (N,)."""

    images: Pixels
    rows: NDArray[np.intp]


def measure_identity(
    network: IdentityNetwork, gallery: Pixels, queries: Mapping[str, Query], *, blurred_count: int
) -> dict[str, Any]:
    """Ask of edited faces whether they are their source's person, and whether they find it.

    Args:
        network: Embeds faces.
        gallery: The sources and more of other people, (N, H, W, C).
        queries: By target.
        blurred_count: How many of the gallery's first faces are blurred for the ceiling.

    Returns:
        By target `by_expression`, and over all edited faces: `same_person_rate` at dlib's
        threshold and `strict_same_person_rate` at that which 1 % of the gallery's pairs pass,
        `retrieval` by the embedding and by the plain pixels; the `floor` of different people and
        the `ceiling` of a face and its blurred copy.
    """
    known = network.of_images(gallery)
    pairs = pdist(known)
    strict = float(np.quantile(pairs, _FALSE_SHARE))
    found = {
        target: _answers(known, gallery, query, network.of_images(query.images), strict)
        for target, query in queries.items()
    }
    copies = Query(blur(gallery[:blurred_count]), np.arange(min(blurred_count, len(gallery))))
    ceiling = _answers(known, gallery, copies, network.of_images(copies.images), strict)
    every = {key: np.concatenate([it[key] for it in found.values()]) for key in ceiling}
    return {
        **_means(every),
        "count": len(every["same_person_rate"]),
        "gallery": len(gallery),
        "threshold": _THRESHOLD,
        "strict_threshold": strict,
        "by_expression": {
            target: {**_means(values), "count": len(queries[target].rows)}
            for target, values in found.items()
        },
        "floor": {
            "same_person_rate": float((pairs < _THRESHOLD).mean()),
            "strict_same_person_rate": float((pairs < strict).mean()),
            "mean_distance": float(pairs.mean()),
            "retrieval": 1 / len(gallery),
            "pixel_retrieval": 1 / len(gallery),
        },
        "ceiling": _means(ceiling),
    }


def _answers(
    known: NDArray[np.float64],
    gallery: Pixels,
    query: Query,
    embedded: NDArray[np.float64],
    strict: float,
) -> dict[str, NDArray[np.floating]]:
    """What is measured of every edited face, (N,) each."""
    distances = cdist(embedded, known)
    pixels = cdist(_flat(query.images), _flat(gallery))
    own = distances[np.arange(len(query.rows)), query.rows]
    return {
        "same_person_rate": np.asarray(own < _THRESHOLD, np.float64),
        "strict_same_person_rate": np.asarray(own < strict, np.float64),
        "mean_distance": own,
        "retrieval": _found_first(distances, query.rows),
        "pixel_retrieval": _found_first(pixels, query.rows),
    }


def _flat(images: Pixels) -> NDArray[np.float64]:
    return images.reshape(len(images), -1).astype(np.float64)


def _found_first(distances: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.floating]:
    """1 where no other face is as near as the source, or nearer."""
    own = distances[np.arange(len(rows)), rows]
    return np.asarray((distances <= own[:, None]).sum(axis=1) == 1, np.float64)


def _means(values: Mapping[str, NDArray[np.floating]]) -> dict[str, float]:
    return {key: float(found.mean()) for key, found in values.items() if len(found)}
