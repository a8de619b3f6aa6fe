"""A served model as what is measured: the one module of training that calls a server.

It looks at a model from outside, as a client does; docs/design/0008 says why it may.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from facegen.client import RAW_PIXELS, Client, Image, Latent
from facegen.training.errors import ConfigurationError
from facegen.training.evaluation.draws import SEED
from facegen.training.evaluation.subject import Encoded, Latents, Pixels, SubjectFacts

__all__ = ["ServedSubject"]

_BATCH_SIZE = 64
_MEASURED_KINDS = ("vae", "autoencoder")


class ServedSubject:
    """A family on a server, measured by calls to it.

    Args:
        client: Reaches the server.
        family: Its name.
        address: The server's, for the protocol.

    Raises:
        ConfigurationError: The family is of a kind that has no such measures.
        ClientError: The server cannot be reached, or does not have the family.
    """

    def __init__(self, client: Client, family: str, *, address: str) -> None:
        model = client.model(family)
        if model.kind not in _MEASURED_KINDS:
            raise ConfigurationError(
                "--family", f'"{family}" is of kind {model.kind}; give a vae or an autoencoder'
            )
        self._client = client
        self._family, self._version = model.family, model.version
        self._shape = (model.height_px, model.width_px, model.channel_count)
        self._facts = SubjectFacts(
            title=model.family,
            source="served",
            kind=model.kind,
            reader=model.dataset,
            image_size=model.height_px,
            channels=model.channel_count,
            latent_size=model.latent_size,
            priors=model.priors,
            details={
                "address": address,
                "version": model.version,
                "seed": SEED,
                "noise": "the server's own, by seed and index",
            },
        )

    @property
    def facts(self) -> SubjectFacts:
        """What it is."""
        return self._facts

    @property
    def directions(self) -> Mapping[str, Latents]:
        """None: a server moves latents itself and does not tell the vectors."""
        return {}

    def encode(self, pixels: Pixels) -> Encoded:
        """Encode pictures."""
        means: list[tuple[float, ...]] = []
        logvars: list[tuple[float, ...]] = []
        for batch in _batches(pixels):
            height, width, channels = batch.shape[1:]
            images = [
                Image(np.ascontiguousarray(it).tobytes(), RAW_PIXELS, height, width, channels)
                for it in batch
            ]
            for found in self._client.encode(images, family=self._family, version=self._version):
                means.append(found.mean.values)
                logvars.append(found.log_variance)
        known = all(logvars) and len(logvars) > 0
        mean = np.array(means, np.float32).reshape(len(means), self._facts.latent_size)
        return Encoded(mean, np.array(logvars, np.float32) if known else None)

    def decode(self, latents: Latents) -> Pixels:
        """Decode latents."""
        parts = []
        for batch in _batches(latents):
            values = [Latent(self._family, self._version, tuple(it)) for it in batch.tolist()]
            answer = self._client.decode(
                values, family=self._family, version=self._version, mime_type=RAW_PIXELS
            )
            parts.append(self._pixels(answer.images))
        return np.concatenate(parts)

    def sample(self, prior: str, count: int, *, temperature: float = 1.0) -> Pixels:
        """Draw pictures: face i of the seed, so that those of fewer are the first of them."""
        parts = []
        for start in range(0, count, _BATCH_SIZE):
            answer = self._client.generate(
                min(_BATCH_SIZE, count - start),
                family=self._family,
                version=self._version,
                seed=SEED,
                first_index=start,
                temperature=temperature,
                prior=prior,
                mime_type=RAW_PIXELS,
            )
            parts.append(self._pixels(face.image for face in answer.faces))
        return np.concatenate(parts)

    def _pixels(self, images: Iterable[Image]) -> Pixels:
        found = [np.frombuffer(it.data, np.uint8).reshape(self._shape) for it in images]
        return np.stack(found)


def _batches(rows: np.ndarray) -> Sequence[np.ndarray]:
    return [rows[start : start + _BATCH_SIZE] for start in range(0, len(rows), _BATCH_SIZE)]
