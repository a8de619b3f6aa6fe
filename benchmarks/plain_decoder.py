"""The decoder's graph as it is exported without rewrites, to race the rewrites against.

Its weights are untrained: a graph's speed does not depend on them.
"""

from pathlib import Path

import numpy as np

from facegen.export.plans import Reference, plan_decoder
from facegen.training import Autoencoder, load_config

__all__ = ["write_plain_decoder"]


def write_plain_decoder(path: Path, preset: str = "celeba-vae") -> None:
    """Write the plain decoder of a preset's network."""
    model = Autoencoder(load_config(preset, []).model).eval()
    images = np.zeros((2, 64, 64, 3), np.uint8)
    plan = plan_decoder(model, Reference.of(model, images), storage="float32")
    path.write_bytes(plan.forms["plain"]("decoder").SerializeToString())
