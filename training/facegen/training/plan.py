"""What each kind of recipe brings to a training: its module, its batches, its pictures, its end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from facegen.training.batches import (
    BalancedOrder,
    BatchOrder,
    WeightedOrder,
    batch_loader,
    column_loader,
)
from facegen.training.callbacks import MeshSheets, Pictures, Transfers
from facegen.training.data import FaceArrays, load_faces, load_labels
from facegen.training.errors import ConfigurationError, RunError
from facegen.training.expression.aligner_data import load_face_squares
from facegen.training.expression.aligner_module import AlignerModule
from facegen.training.expression.appearance import AppearanceTransport, ShapedFaces
from facegen.training.expression.classifier_module import ClassifierModule
from facegen.training.expression.data import (
    AlignedFaces,
    AlignedSplit,
    half_of,
    load_aligned_faces,
)
from facegen.training.expression.module import ExpressionModule
from facegen.training.fitting import (
    Fitted,
    check_labels,
    fit_autoencoder,
    fit_mesh_prior,
    fit_prior,
)
from facegen.training.mesh.data import load_meshes
from facegen.training.mesh.hierarchy import build_hierarchy
from facegen.training.mesh.model import MeshAutoencoder, VertexScale
from facegen.training.mesh.module import MeshModule
from facegen.training.module import AutoencoderModule, to_input
from facegen.training.perception import FeatureMaps
from facegen.training.recipes import (
    AlignerRecipe,
    AnyRecipe,
    ClassifierRecipe,
    ExpressionRecipe,
    MeshRecipe,
    TrainConfig,
)
from facegen.training.run import (
    AnyRun,
    ClassifierRun,
    Run,
    RunPaths,
    load_any_run,
    load_classifier_run,
)

__all__ = ["Plan", "plan_training"]

_VALIDATION_BATCH_SIZE = 128
_STANDARDISING_COUNT = 200

_Module = TypeVar("_Module", bound=LightningModule)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the trainer trains, and how.

    Attributes:
        module: The model, its losses and its optimiser.
        model: The part of the module that the run is for.
        train: Batches; their sampler is told the epoch.
        validation: Batches, the same every epoch.
        pictures: Draw something every epoch.
        panels: What the curves show: a title for each "train/…" or "validation/…" metric.
        facts: What run.json says of the data and of earlier runs.
        fit: Fits priors and directions to the finished model's latents, where it has any.
    """

    module: LightningModule
    model: nn.Module
    train: DataLoader[Any]
    validation: DataLoader[Any]
    pictures: Sequence[Callback]
    panels: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[], Fitted] | None = None


def plan_training(config: AnyRecipe, paths: RunPaths) -> Plan:
    """Build the model and load the data.

    Args:
        config: The recipe.
        paths: Where pictures will go.

    Raises:
        ConfigurationError: An impossible model.
        DatasetError: The data is missing or broken.
        RunError: A run to start from or to be guided by is not finished or does not fit.
    """
    start = load_any_run(config.start_from) if config.start_from else None
    match config:
        case TrainConfig():
            return _plan_autoencoder(config, paths, start)
        case ClassifierRecipe():
            return _plan_classifier(config, start)
        case AlignerRecipe():
            return _plan_aligner(config, start)
        case ExpressionRecipe():
            return _plan_expression(config, paths, start)
        case MeshRecipe():
            return _plan_meshes(config, paths, start)


def _plan_autoencoder(config: TrainConfig, paths: RunPaths, start: AnyRun | None) -> Plan:
    faces = load_faces(
        config.data.reader,
        Path(config.data.root),
        size_px=config.model.image_size,
        channels=config.model.channels,
    )
    train, validation = faces.pixels["train"], faces.pixels["validation"]
    labels = load_labels(faces)["train"]
    check_labels(labels, config.prior)
    maps = _feature_maps(train) if config.loss.perceptual else None
    prior = start.prior if isinstance(start, Run) else None
    module = _seeded(config, lambda: AutoencoderModule(config, maps=maps, prior=prior))
    _start(module.model, config, start)
    if config.compile:
        module.model.compile()

    return Plan(
        module,
        module.model,
        batch_loader(train, config.batch_size, seed=config.seed),
        batch_loader(validation, _VALIDATION_BATCH_SIZE),
        [
            Pictures(
                paths.pictures,
                train,
                validation=validation,
                count=config.picture_count,
                seed=config.seed,
            )
        ],
        {
            "loss": "Loss",
            "reconstruction": "Reconstruction",
            "kl": "KL divergence, nats",
            "psnr": "PSNR of validation pictures, dB",
            "features": "Distance in features",
            "critic": "Critic's hinge loss",
        },
        _data_facts(faces) | _start_facts(start),
        lambda: fit_autoencoder(module.model, train, labels=labels, config=config),
    )


def _plan_classifier(config: ClassifierRecipe, start: AnyRun | None) -> Plan:
    module = _seeded(config, lambda: ClassifierModule(config))
    _start(module.model, config, start)
    aligned = load_aligned_faces(config.data, config.model.expressions)
    train = aligned.train.labelled()
    if config.half != "both":
        train = train.where(np.array([half_of(name) == config.half for name in train.names]))
    validation = aligned.validation.labelled()
    counts = np.bincount(train.labels, minlength=len(config.model.expressions))
    weights = torch.from_numpy(1 / np.sqrt(np.maximum(counts, 1)))[torch.from_numpy(train.labels)]
    return Plan(
        module,
        module.model,
        column_loader(
            {"images": train.images, "votes": train.votes},
            WeightedOrder(weights, config.batch_size, seed=config.seed),
        ),
        column_loader(
            {
                "images": validation.images,
                "votes": validation.votes,
                "labels": validation.labels,
            },
            BatchOrder(len(validation), _VALIDATION_BATCH_SIZE, seed=None),
        ),
        [],
        {"loss": "Cross-entropy, nats", "accuracy": "Accuracy on validation pictures"},
        _aligned_facts(aligned, train, validation) | _start_facts(start),
    )


def _plan_aligner(config: AlignerRecipe, start: AnyRun | None) -> Plan:
    module = _seeded(config, lambda: AlignerModule(config))
    _start(module.model, config, start)
    train, validation = load_face_squares(config.data.readers, Path(config.data.root))
    counts = {"train_pictures": len(train.squares), "validation_pictures": len(validation.squares)}
    return Plan(
        module,
        module.model,
        column_loader(
            train._asdict(), BatchOrder(len(train.squares), config.batch_size, seed=config.seed)
        ),
        column_loader(
            validation._asdict(),
            BatchOrder(len(validation.squares), _VALIDATION_BATCH_SIZE, seed=None),
        ),
        [],
        {"loss": "Loss, squares' sides", "distance": "Distance, squares' sides"},
        counts | _start_facts(start),
    )


def _plan_expression(config: ExpressionRecipe, paths: RunPaths, start: AnyRun | None) -> Plan:
    guides = [load_classifier_run(folder) for folder in config.guides]
    for guide in guides:
        known = guide.config.model.expressions
        if known != config.model.expressions[: len(known)]:
            raise RunError(
                guide.paths.folder, "tells other expressions apart than the first of this recipe's"
            )
    aligned = load_aligned_faces(config.data, config.model.expressions)
    train = aligned.train.where((aligned.train.labels >= 0) & aligned.train.good)
    labelled = aligned.validation.labelled()
    validation = labelled.where(labelled.good) if labelled.good.any() else labelled
    classes = [np.flatnonzero(train.labels == k) for k in range(len(config.model.expressions))]
    models = [guide.model for guide in guides]
    shares = np.take_along_axis(train.votes, train.labels[:, None], 1)[:, 0]
    teacher = AppearanceTransport(
        ShapedFaces(train.images, train.shapes, train.labels, shares), config.model.expressions
    )
    module = _seeded(config, lambda: ExpressionModule(config, models, teacher))
    _start(module.model, config, start)

    facts = _aligned_facts(aligned, train, validation) | _start_facts(start)
    return Plan(
        module,
        module.model,
        column_loader(
            {"images": train.images, "shapes": train.shapes},
            BalancedOrder(
                classes, config.batch_size, steps=config.steps_per_epoch, seed=config.seed
            ),
        ),
        column_loader(
            {"images": validation.images, "labels": validation.labels},
            BatchOrder(len(validation), _VALIDATION_BATCH_SIZE, seed=None),
        ),
        [
            Transfers(
                paths.pictures,
                validation.images,
                validation.labels,
                count=config.picture_count,
                seed=config.seed,
            )
        ],
        {
            "nll": "Likelihood, nats an image",
            "kl": "KL divergence, nats",
            "error": "Squared error of the plain VAE",
            "taught": "Distance from the pictures taught, mean absolute",
            "flow": "Distance from the flow taught, pixels",
            "guidance": "Guides' cross-entropy, nats",
            "convinced": "Edits that guides believe",
        },
        facts | {"guides": [_guide_facts(guide) for guide in guides]},
        lambda: fit_prior(module.model, train.images, config),
    )


def _plan_meshes(config: MeshRecipe, paths: RunPaths, start: AnyRun | None) -> Plan:
    meshes = load_meshes(config.data, Path(config.data.root), seed=config.seed)
    train, validation = meshes.vertices["train"], meshes.vertices["validation"]
    scale = VertexScale.of(train)

    def build() -> MeshModule:
        hierarchy = build_hierarchy(scale.mean, meshes.faces, config.model.factors)
        return MeshModule(config, MeshAutoencoder(config.model, hierarchy, scale))

    module = _seeded(config, build)
    _start(module.model, config, start)
    return Plan(
        module,
        module.model,
        column_loader(
            {"vertices": train}, BatchOrder(len(train), config.batch_size, seed=config.seed)
        ),
        column_loader(
            {"vertices": validation},
            BatchOrder(len(validation), config.batch_size, seed=None),
        ),
        [MeshSheets(paths.pictures, validation, meshes.faces, count=config.picture_count)],
        {
            "loss": "Loss",
            "vertex_error": "Distance of vertices, mm",
            "kl": "KL divergence, nats",
        },
        {
            "train_meshes": len(train),
            "validation_meshes": len(validation),
            "refused_meshes": list(meshes.refused),
            "vertices": len(scale.mean),
        }
        | _start_facts(start),
        lambda: fit_mesh_prior(module.model, train, config),
    )


def _seeded(config: AnyRecipe, build: Callable[[], _Module]) -> _Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            module = build()
        except ValueError as error:
            raise ConfigurationError("model", str(error)) from error
    return module.to(memory_format=torch.channels_last) if config.channels_last else module


def _feature_maps(pictures: NDArray[np.uint8]) -> FeatureMaps:
    return FeatureMaps(to_input(torch.tensor(pictures[:_STANDARDISING_COUNT])))


def _start(model: nn.Module, config: AnyRecipe, start: AnyRun | None) -> None:
    if start is None:
        return
    if not _fits(start.config, config):
        raise RunError(start.paths.folder, "its model differs; start from one with this recipe's")
    state, own = start.model.state_dict(), model.state_dict()
    kept = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
    model.load_state_dict(own | kept)


def _fits(start: AnyRecipe, config: AnyRecipe) -> bool:
    """Whether a run's model can begin another's: a decoder may get a head, and grain."""
    if isinstance(start, TrainConfig) and isinstance(config, TrainConfig):
        added = {"head_width": config.model.head_width, "grain": config.model.grain}
        return start.model.model_copy(update=added) == config.model
    return start.model == config.model


def _start_facts(start: AnyRun | None) -> dict[str, Any]:
    return {"start_seconds": start.seconds} if start else {}


def _data_facts(faces: FaceArrays) -> dict[str, Any]:
    return {
        "train_pictures": len(faces.pixels["train"]),
        "validation_pictures": len(faces.pixels["validation"]),
        "corrupt_pictures": list(faces.corrupt),
        "dropped_pictures": faces.dropped_count,
        "crop": faces.dataset.crop,
    }


def _aligned_facts(
    aligned: AlignedFaces, train: AlignedSplit, validation: AlignedSplit
) -> dict[str, Any]:
    return {
        "train_pictures": len(train),
        "validation_pictures": len(validation),
        "train_expressions": _counts(train, aligned.expressions),
        "validation_expressions": _counts(validation, aligned.expressions),
        "corrupt_pictures": list(aligned.faces.corrupt),
        "dropped_pictures": aligned.faces.dropped_count,
        "crop": 1.0,
    }


def _counts(split: AlignedSplit, expressions: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(split.labels, minlength=len(expressions))
    return dict(zip(expressions, counts.tolist(), strict=True))


def _guide_facts(guide: ClassifierRun) -> dict[str, Any]:
    kept = ("commit", "seconds", "train_pictures")
    return {"folder": str(guide.paths.folder)} | {k: guide.facts.get(k) for k in kept}
