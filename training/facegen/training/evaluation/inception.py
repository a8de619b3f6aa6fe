"""The Fréchet Inception distance of others' tables, where its network's weights are at hand."""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from facegen.training.errors import ConfigurationError
from facegen.training.evaluation.subject import Pixels

__all__ = ["InceptionDistance", "inception_weights"]

_FILE = "weights-inception-2015-12-05-6726825d.pth"
_SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + _FILE
_BATCH_SIZE = 25

_log = logging.getLogger(__name__)


def inception_weights() -> Path:
    """Where torch-fidelity keeps Inception's weights: torch hub's folder. Nothing is downloaded.

    Raises:
        ConfigurationError: torch-fidelity is not installed, or the file is not there; right once
            they are.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigurationError(
            "--inception", "torch-fidelity is not installed: pip install torch-fidelity"
        )
    path = Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if not path.is_file():
        raise ConfigurationError(
            "--inception", f"Inception's weights are not at {path}: get them from {_SOURCE}"
        )
    return path


class InceptionDistance:
    """FID as torchmetrics has it.

    Heusel et al. (2017), https://arxiv.org/abs/1706.08500, on the pooled 2048 features of the
    Inception of TensorFlow's FID. Papers measure it with 50,000 pictures: of 1,000 it is biased
    upwards by much, and compares within one count only.

    Raises:
        ConfigurationError: Its packages or weights are missing.
    """

    def __init__(self) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self.weights = inception_weights()
        self._metric = FrechetInceptionDistance(
            feature=2048,
            reset_real_features=False,
            feature_extractor_weights_path=str(self.weights),
        )
        self._metric.set_dtype(torch.float64)

    def of_sets(self, real: Pixels, fake: Mapping[str, Pixels]) -> dict[str, float]:
        """Distances of sets of pictures (N, H, W, C) uint8 from real ones, by name."""
        _log.info("Inception sees sets=%d pictures=%d", len(fake) + 1, len(real))
        self._show(real, real=True)
        found = {}
        for name, pictures in fake.items():
            self._metric.reset()  # keeps the real ones
            self._show(pictures, real=False)
            found[name] = float(self._metric.compute())
        return found

    def _show(self, pictures: Pixels, *, real: bool) -> None:
        for start in range(0, len(pictures), _BATCH_SIZE):
            batch = torch.tensor(pictures[start : start + _BATCH_SIZE]).permute(0, 3, 1, 2)
            self._metric.update(batch.expand(-1, 3, -1, -1), real=real)
