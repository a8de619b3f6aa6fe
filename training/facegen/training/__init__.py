"""Training of face models: data sets, recipes, run folders.

The names below load on first use, so that `facegen train --help` does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facegen.training.autoencoder import (
        Autoencoder,
        AutoencoderConfig,
        AutoencoderOutput,
        Decoder,
        Encoder,
        Posterior,
    )
    from facegen.training.config import load_config, load_recipe, preset_names
    from facegen.training.data import FaceArrays, load_faces
    from facegen.training.errors import (
        ConfigurationError,
        DatasetError,
        NonFiniteError,
        RunError,
        TrainingError,
    )
    from facegen.training.mesh.arrays import MeshArrays
    from facegen.training.mesh.model import MeshAutoencoder, MeshConfig
    from facegen.training.prior import MixturePrior, fit_mixture
    from facegen.training.recipes import (
        AlignerRecipe,
        AnyRecipe,
        ClassifierRecipe,
        ExpressionRecipe,
        MeshRecipe,
        TrainConfig,
    )
    from facegen.training.run import (
        AlignerRun,
        AnyRun,
        ClassifierRun,
        ExpressionRun,
        MeshRun,
        Run,
        RunPaths,
        load_aligner_run,
        load_any_run,
        load_classifier_run,
        load_expression_run,
        load_mesh_run,
        load_run,
    )
    from facegen.training.trainer import train_run

__all__ = [
    "AlignerRecipe",
    "AlignerRun",
    "AnyRecipe",
    "AnyRun",
    "Autoencoder",
    "AutoencoderConfig",
    "AutoencoderOutput",
    "ClassifierRecipe",
    "ClassifierRun",
    "ConfigurationError",
    "DatasetError",
    "Decoder",
    "Encoder",
    "ExpressionRecipe",
    "ExpressionRun",
    "FaceArrays",
    "MeshArrays",
    "MeshAutoencoder",
    "MeshConfig",
    "MeshRecipe",
    "MeshRun",
    "MixturePrior",
    "NonFiniteError",
    "Posterior",
    "Run",
    "RunError",
    "RunPaths",
    "TrainConfig",
    "TrainingError",
    "fit_mixture",
    "load_aligner_run",
    "load_any_run",
    "load_classifier_run",
    "load_config",
    "load_expression_run",
    "load_faces",
    "load_mesh_run",
    "load_recipe",
    "load_run",
    "preset_names",
    "train_run",
]

_MODULES = {
    "autoencoder": (
        "Autoencoder",
        "AutoencoderConfig",
        "AutoencoderOutput",
        "Decoder",
        "Encoder",
        "Posterior",
    ),
    "config": ("load_config", "load_recipe", "preset_names"),
    "data": ("FaceArrays", "load_faces"),
    "errors": (
        "ConfigurationError",
        "DatasetError",
        "NonFiniteError",
        "RunError",
        "TrainingError",
    ),
    "mesh.arrays": ("MeshArrays",),
    "mesh.model": ("MeshAutoencoder", "MeshConfig"),
    "prior": ("MixturePrior", "fit_mixture"),
    "recipes": (
        "AlignerRecipe",
        "AnyRecipe",
        "ClassifierRecipe",
        "ExpressionRecipe",
        "MeshRecipe",
        "TrainConfig",
    ),
    "run": (
        "AlignerRun",
        "AnyRun",
        "ClassifierRun",
        "ExpressionRun",
        "MeshRun",
        "Run",
        "RunPaths",
        "load_aligner_run",
        "load_any_run",
        "load_classifier_run",
        "load_expression_run",
        "load_mesh_run",
        "load_run",
    ),
    "trainer": ("train_run",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
