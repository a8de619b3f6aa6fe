"""A finished run as what is measured."""

from collections.abc import Mapping

import numpy as np
import torch

from facegen.training.directions import kept_directions
from facegen.training.evaluation.draws import draw
from facegen.training.evaluation.subject import Encoded, Latents, Pixels, SubjectFacts
from facegen.training.latents import decode_latents
from facegen.training.module import to_input
from facegen.training.prior import MixturePrior
from facegen.training.run import Run

__all__ = ["RunSubject"]

_BATCH_SIZE = 128
_SHOWN = 24  # samples that a report shows, however few are measured
_KEPT = ("commit", "seed", "torch", "device", "epochs", "seconds", "start_seconds")


class RunSubject:
    """A finished run of an autoencoder, measured where it lies.

    Args:
        run: The run.
        count: The most samples that are measured.
    """

    def __init__(self, run: Run, *, count: int) -> None:
        model = run.config.model
        self._model = run.model
        self._priors: Mapping[str, MixturePrior] = run.priors
        self._directions = run.directions and kept_directions(run.directions, run.effects)
        self._noise, self._uniform, _ = draw(max(count, _SHOWN), model.latent_size, 0)
        self._facts = SubjectFacts(
            title=run.paths.folder.resolve().name,
            source="run",
            kind=model.kind,
            reader=run.config.data.reader,
            image_size=model.image_size,
            channels=model.channels,
            latent_size=model.latent_size,
            priors=(*self._priors, "normal"),
            details={name: run.facts[name] for name in _KEPT if name in run.facts},
        )

    @property
    def facts(self) -> SubjectFacts:
        """What it is."""
        return self._facts

    @property
    def directions(self) -> Mapping[str, Latents]:
        """Directions that change one property of a face."""
        found = self._directions
        return dict(zip(found.names, found.vectors, strict=True)) if found else {}

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Encoded:
        """Encode pictures."""
        found = []
        for start in range(0, len(pixels), _BATCH_SIZE):
            batch = torch.tensor(pixels[start : start + _BATCH_SIZE])
            found.append(self._model.encoder(to_input(batch)))
        mean = torch.cat([it.mu for it in found]).numpy()
        logvars = [it.logvar for it in found if it.logvar is not None]
        return Encoded(mean, torch.cat(logvars).numpy() if logvars else None)

    def decode(self, latents: Latents) -> Pixels:
        """Decode latents."""
        return decode_latents(self._model, latents)

    def sample(self, prior: str, count: int, *, temperature: float = 1.0) -> Pixels:
        """Draw pictures."""
        noise = np.float32(temperature) * self._noise[:count]
        if prior != "normal":
            noise = self._priors[prior].sample(noise, self._uniform[:count])
        return self.decode(noise)
