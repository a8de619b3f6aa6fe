"""Run folders: what a training leaves, and how it is read back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from facegen.training.autoencoder import Autoencoder
from facegen.training.config import read_toml
from facegen.training.data import FaceArrays, load_faces
from facegen.training.directions import Directions
from facegen.training.errors import RunError
from facegen.training.expression.aligner import Aligner
from facegen.training.expression.classifier import Classifier
from facegen.training.expression.model import ExpressionModel
from facegen.training.mesh.arrays import MeshArrays
from facegen.training.mesh.data import load_meshes
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.prior import MixturePrior
from facegen.training.recipes import (
    AlignerRecipe,
    AnyRecipe,
    ClassifierRecipe,
    ExpressionRecipe,
    MeshRecipe,
    TrainConfig,
)

__all__ = [
    "AlignerRun",
    "AnyRun",
    "ClassifierRun",
    "ExpressionRun",
    "FinishedRun",
    "MeshRun",
    "Run",
    "RunPaths",
    "load_aligner_run",
    "load_any_run",
    "load_classifier_run",
    "load_expression_run",
    "load_mesh_run",
    "load_run",
]

_Recipe = TypeVar("_Recipe", bound=AnyRecipe)
_Model = TypeVar("_Model", bound=nn.Module)
_Run = TypeVar("_Run", bound="AnyRun")


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where everything lies in a run folder.

    Attributes:
        folder: The run folder.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The recipe with every key."""
        return self.folder / "config.toml"

    @property
    def checkpoint(self) -> Path:
        """The state after the last whole epoch."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def metrics_folder(self) -> Path:
        """TensorBoard's files and metrics.csv."""
        return self.folder / "metrics"

    @property
    def table(self) -> Path:
        """One row of metrics an epoch."""
        return self.metrics_folder / "metrics.csv"

    @property
    def pictures(self) -> Path:
        """Grids of every epoch and the curves."""
        return self.folder / "pictures"

    @property
    def comparison(self) -> Path:
        """Meshes, what comes back and the error, for cards; only of meshes that are nobody's."""
        return self.pictures / "comparison.png"

    @property
    def traversals(self) -> Path:
        """Meshes that move along the axes of the latents, for cards."""
        return self.pictures / "traversals.gif"

    @property
    def weights(self) -> Path:
        """The averaged weights, written last of all: a run that has them is finished."""
        return self.folder / "model.safetensors"

    @property
    def prior(self) -> Path:
        """The fitted mixture."""
        return self.folder / "prior.npz"

    @property
    def label_priors(self) -> Path:
        """The folder of mixtures fitted to the latents of pictures with one label, NAME.npz."""
        return self.folder / "priors"

    @property
    def directions(self) -> Path:
        """The directions of labels, and the principal axes."""
        return self.folder / "directions.npz"

    @property
    def effects(self) -> Path:
        """What the directions were measured to change."""
        return self.folder / "directions.json"

    @property
    def metrics(self) -> Path:
        """What `facegen evaluate` measured."""
        return self.folder / "metrics.json"

    @property
    def evaluation(self) -> Path:
        """The rest of what `facegen evaluate` measured: curves and lists."""
        return self.folder / "evaluation.json"

    @property
    def page(self) -> Path:
        """The page that shows what `facegen evaluate` measured."""
        return self.folder / "evaluation.html"

    @property
    def public_page(self) -> Path:
        """What `facegen evaluate` tells without showing people of the data set."""
        return self.folder / "evaluation-public.html"

    @property
    def facts(self) -> Path:
        """Commit, seed, time, versions, device."""
        return self.folder / "run.json"


@dataclass(frozen=True, slots=True)
class FinishedRun(Generic[_Recipe, _Model]):
    """A finished training of any kind.

    Attributes:
        paths: Where its files lie.
        config: The recipe.
        model: The model with averaged weights, in evaluation mode, on the CPU.
        metrics: What `facegen evaluate` measured; empty before that.
        facts: Commit, seed, time, versions, device.
    """

    paths: RunPaths
    config: _Recipe
    model: _Model
    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """How long it trained, the runs that it started from included."""
        return float(self.facts["seconds"]) + float(self.facts.get("start_seconds", 0.0))


@dataclass(frozen=True, slots=True)
class Run(FinishedRun[TrainConfig, Autoencoder]):
    """A finished training of an autoencoder.

    Attributes:
        prior: The mixture fitted to its latents.
        label_priors: Mixtures fitted to the latents of pictures with one label, by exported name.
        directions: Moves in its latent space; None if the run has none.
        effects: What `facegen fit` measured of the directions; empty before that.
    """

    prior: MixturePrior
    label_priors: Mapping[str, MixturePrior] = field(default_factory=dict)
    directions: Directions | None = None
    effects: Mapping[str, Any] = field(default_factory=dict)

    @property
    def priors(self) -> Mapping[str, MixturePrior]:
        """Every mixture by its exported name, `mixture` first."""
        return {"mixture": self.prior, **self.label_priors}

    def faces(self, data: Path | None = None) -> FaceArrays:
        """The data set it was trained on.

        Args:
            data: Where the data lies now; None takes the folder it was trained from.

        Raises:
            DatasetError: It is not there; right once it is.
        """
        return load_faces(
            self.config.data.reader,
            data or Path(self.config.data.root),
            size_px=self.config.model.image_size,
            channels=self.config.model.channels,
        )

    def validation_images(self, count: int, *, data: Path | None = None) -> NDArray[np.uint8]:
        """The first `count` validation pictures, (N, H, W, C) uint8; errors as for `faces`."""
        return self.faces(data).pixels["validation"][:count]


@dataclass(frozen=True, slots=True)
class ClassifierRun(FinishedRun[ClassifierRecipe, Classifier]):
    """A finished training of a classifier."""


@dataclass(frozen=True, slots=True)
class AlignerRun(FinishedRun[AlignerRecipe, Aligner]):
    """A finished training of an aligner."""


@dataclass(frozen=True, slots=True)
class ExpressionRun(FinishedRun[ExpressionRecipe, ExpressionModel]):
    """A finished training of an expression model.

    Attributes:
        prior: The mixture fitted to its latents.
    """

    prior: MixturePrior


@dataclass(frozen=True, slots=True)
class MeshRun(FinishedRun[MeshRecipe, MeshAutoencoder]):
    """A finished training of a mesh autoencoder.

    Attributes:
        prior: The mixture fitted to its latents.
    """

    prior: MixturePrior

    def meshes(self, data: Path | None = None) -> MeshArrays:
        """The data set it was trained on.

        Args:
            data: Where the data lies now; None takes the folder it was trained from.

        Raises:
            DatasetError: It is not there; right once it is.
            RunError: It has another topology than the model.
        """
        root = data or Path(self.config.data.root)
        arrays = load_meshes(self.config.data, root, seed=self.config.seed)
        if not np.array_equal(arrays.faces, self.model.hierarchy.faces[0]):
            raise RunError(
                self.paths.folder, f"its meshes have another topology than those in {root}"
            )
        return arrays


AnyRun: TypeAlias = Run | ClassifierRun | AlignerRun | ExpressionRun | MeshRun
"""A finished run of any kind."""


def load_run(folder: Path | str) -> Run:
    """Read a finished run of an autoencoder; errors as for `load_any_run`, and for another kind."""
    return _of_kind(load_any_run(folder), Run, "an autoencoder")


def load_classifier_run(folder: Path | str) -> ClassifierRun:
    """Read a finished run of a classifier; errors as for `load_any_run`, and for another kind."""
    return _of_kind(load_any_run(folder), ClassifierRun, "a classifier")


def load_aligner_run(folder: Path | str) -> AlignerRun:
    """Read a finished run of an aligner; errors as for `load_any_run`, and for another kind."""
    return _of_kind(load_any_run(folder), AlignerRun, "an aligner")


def load_expression_run(folder: Path | str) -> ExpressionRun:
    """Read a finished run of expressions; errors as for `load_any_run`, and for another kind."""
    return _of_kind(load_any_run(folder), ExpressionRun, "an expression model")


def load_mesh_run(folder: Path | str) -> MeshRun:
    """Read a finished run of meshes; errors as for `load_any_run`, and for another kind."""
    return _of_kind(load_any_run(folder), MeshRun, "a mesh autoencoder")


def load_any_run(folder: Path | str) -> AnyRun:
    """Read a finished run of any kind.

    Args:
        folder: The run folder.

    Returns:
        Recipe, model, prior, metrics and facts.

    Raises:
        RunError: No run, or not finished; right once training has ended.
    """
    paths = RunPaths(Path(folder))
    if not paths.config.is_file():
        raise RunError(
            paths.folder, "no config.toml; give a folder that `facegen train` has written"
        )
    if not paths.weights.is_file():
        raise RunError(
            paths.folder, "no model.safetensors; let `facegen train … --resume` finish it first"
        )
    config = read_toml(paths.config.read_text("utf-8"), source=str(paths.config))
    metrics, facts = _read_json(paths.metrics), _read_json(paths.facts)
    match config:
        case TrainConfig():
            autoencoder = _with_weights(Autoencoder(config.model), paths)
            prior = MixturePrior.load(paths.prior)
            labelled = sorted(paths.label_priors.glob("*.npz"))
            priors = {path.stem: MixturePrior.load(path) for path in labelled}
            directions = Directions.load(paths.directions) if paths.directions.is_file() else None
            effects = _read_json(paths.effects)
            return Run(
                paths, config, autoencoder, metrics, facts, prior, priors, directions, effects
            )
        case ClassifierRecipe():
            classifier = _with_weights(Classifier(config.model), paths)
            return ClassifierRun(paths, config, classifier, metrics, facts)
        case AlignerRecipe():
            aligner = _with_weights(Aligner(config.model), paths)
            return AlignerRun(paths, config, aligner, metrics, facts)
        case ExpressionRecipe():
            model = _with_weights(ExpressionModel(config.model), paths)
            prior = MixturePrior.load(paths.prior)
            return ExpressionRun(paths, config, model, metrics, facts, prior)
        case MeshRecipe():
            meshes = _mesh_model(config, paths)
            return MeshRun(paths, config, meshes, metrics, facts, MixturePrior.load(paths.prior))


def _of_kind(run: AnyRun, kind: type[_Run], name: str) -> _Run:
    if not isinstance(run, kind):
        raise RunError(
            run.paths.folder,
            f'a run of kind "{run.config.model.kind}"; give one of {name}',
        )
    return run


def _with_weights(model: _Model, paths: RunPaths) -> _Model:
    return _loaded(lambda: _load_state(model, paths), paths)


def _mesh_model(config: MeshRecipe, paths: RunPaths) -> MeshAutoencoder:
    weights = load_file(paths.weights)
    return _loaded(lambda: MeshAutoencoder.of_state(config.model, weights), paths)


def _load_state(model: _Model, paths: RunPaths) -> _Model:
    model.load_state_dict(load_file(paths.weights))
    return model


def _loaded(load: Callable[[], _Model], paths: RunPaths) -> _Model:
    try:
        model = load()
    except RuntimeError as error:
        raise RunError(
            paths.folder, f"model.safetensors does not fit config.toml: {error}"
        ) from error
    model.eval().requires_grad_(requires_grad=False)
    return model


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value
