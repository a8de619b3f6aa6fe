"""Training of face models: data sets, recipes, run folders."""

from facegen.training.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    AutoencoderOutput,
    Decoder,
    Encoder,
    Posterior,
)
from facegen.training.config import TrainConfig, load_config, preset_names
from facegen.training.data import FaceArrays, load_faces
from facegen.training.prior import MixturePrior, fit_mixture
from facegen.training.run import Run, RunPaths, load_run
from facegen.training.trainer import train_run

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "AutoencoderOutput",
    "Decoder",
    "Encoder",
    "FaceArrays",
    "MixturePrior",
    "Posterior",
    "Run",
    "RunPaths",
    "TrainConfig",
    "fit_mixture",
    "load_config",
    "load_faces",
    "load_run",
    "preset_names",
    "train_run",
]
