"""The recipes of runs, one a kind of model: every key, its default and what it means."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facegen.training.autoencoder import AutoencoderConfig
from facegen.training.expression.aligner import AlignerConfig
from facegen.training.expression.classifier import ClassifierConfig
from facegen.training.expression.model import ExpressionConfig
from facegen.training.expression.objective import ExpressionLossConfig
from facegen.training.mesh.model import MeshConfig
from facegen.training.mesh.recipe import MeshDataConfig, MeshLossConfig

__all__ = [
    "AlignerDataConfig",
    "AlignerOptimizerConfig",
    "AlignerRecipe",
    "AnyRecipe",
    "ClassifierOptimizerConfig",
    "ClassifierRecipe",
    "DataConfig",
    "ExamplesConfig",
    "ExpressionDataConfig",
    "ExpressionOptimizerConfig",
    "ExpressionRecipe",
    "LossConfig",
    "MeshOptimizerConfig",
    "MeshRecipe",
    "MixtureConfig",
    "OptimizerConfig",
    "PriorConfig",
    "Recipe",
    "TrainConfig",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataConfig(_Frozen):
    """Which pictures, and how they reach the model."""

    reader: Literal["celeba", "lfw", "fer", "folder", "fer-aligned", "folder-aligned"] = "celeba"
    """The layout on disk; -aligned: faces are found and brought into one place by five points."""
    root: str = "data"
    """The folder that holds the data set, or the data set itself."""
    flip: bool = True
    """Mirror half of the training pictures."""
    shift_px: int = Field(default=0, ge=0, le=8)
    """Move training pictures by up to so many pixels, edges repeated."""


class LossConfig(_Frozen):
    """The terms of the objective and their weights."""

    reconstruction: Literal["sigma", "fixed", "mse"] = "sigma"
    """sigma: likelihood, learned variance; fixed: squared error + beta · KL; mse: squared error."""
    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL; 1 is the evidence lower bound when the variance is learned."""
    beta_warmup_steps: int = Field(default=0, ge=0)
    """Steps in which beta grows from 0 to its value."""
    free_nats: float = Field(default=0.0, ge=0)
    """What every latent value may tell before the KL counts, in nats; 0 for none."""
    mmd_weight: float = Field(default=0.0, ge=0)
    """Weight of the latents' maximum mean discrepancy from N(0, I): a Wasserstein autoencoder."""
    feature_weight: float = Field(default=0.0, ge=0)
    """Weight of the distance in a frozen network's features, for every value of an image."""
    adversarial_weight: float = Field(default=0.0, ge=0)
    """Weight of a critic's judgement for every value of an image. It needs a run to start from,
    whose encoder and prior stay: the decoder alone is trained."""
    spectrum_weight: float = Field(default=0.0, ge=0)
    """Weight of the distance from the spectrum of real pictures, for every value of an image."""
    ssim_weight: float = Field(default=0.0, ge=0)
    """Weight of 1 − SSIM for every value of an image, beside reconstruction's nats a value."""

    @property
    def perceptual(self) -> bool:
        """Whether a term needs a frozen network."""
        return self.feature_weight > 0 or self.adversarial_weight > 0


class OptimizerConfig(_Frozen):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest learning rate."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled decay of weights; biases and normalisations have none."""
    schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
    """How the learning rate goes after the warm-up."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear growth to the highest learning rate."""
    gradient_clip_norm: float = Field(default=5.0, ge=0)
    """Longest gradient, of the loss per image value; 0 never clips."""


class ClassifierOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with the defaults of classifiers."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """The highest learning rate."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled decay of weights; biases and normalisations have none."""
    schedule: Literal["cosine", "one-cycle", "constant"] = "one-cycle"
    """How the learning rate goes after the warm-up."""
    warmup_steps: int = Field(default=500, ge=0)
    """Steps of linear growth to the highest learning rate."""
    gradient_clip_norm: float = Field(default=0.0, ge=0)
    """Longest gradient, of the loss per image value; 0 never clips."""


class AlignerOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with the defaults of aligners."""

    learning_rate: float = Field(default=2e-3, gt=0)
    """The highest learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled decay of weights; biases and normalisations have none."""
    schedule: Literal["cosine", "one-cycle", "constant"] = "one-cycle"
    """How the learning rate goes after the warm-up."""
    warmup_steps: int = Field(default=500, ge=0)
    """Steps of linear growth to the highest learning rate."""


class ExpressionOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with the defaults of expression models."""

    learning_rate: float = Field(default=8e-4, gt=0)
    """The highest learning rate."""
    warmup_steps: int = Field(default=500, ge=0)
    """Steps of linear growth to the highest learning rate."""


class MeshOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule, with the defaults of mesh autoencoders."""

    learning_rate: float = Field(default=1e-2, gt=0)
    """The highest learning rate."""
    schedule: Literal["cosine", "one-cycle", "constant"] = "one-cycle"
    """How the learning rate goes after the warm-up."""
    warmup_steps: int = Field(default=1000, ge=0)
    """Steps of linear growth to the highest learning rate."""


class MixtureConfig(_Frozen):
    """The mixture that is fitted to the latents after training."""

    components: int = Field(default=10, ge=1)
    """Gaussians in the mixture, each with a full covariance."""
    candidates: tuple[int, ...] = ()
    """Component counts to choose from by BIC; empty takes `components`."""
    latents: Literal["samples", "means"] = "samples"
    """Fit to draws from the posteriors or to their means; an autoencoder's are the same."""


class PriorConfig(MixtureConfig):
    """The mixtures that are fitted to the latents of pictures after training."""

    flip: bool = True
    """Fit to the mirrored pictures too."""
    labels: tuple[str, ...] = ()
    """Labels whose pictures get a prior of their own, as in ["Smiling", "-Male"]: - is without."""


class Recipe(_Frozen):
    """What the recipes of all kinds share."""

    description: str = ""
    """One line for --help."""
    start_from: str = ""
    """A finished run folder whose weights training starts from; empty starts anew."""
    seed: int = Field(default=0, ge=0)
    """Decides initialisation, order, augmentation and noise."""
    epochs: int = Field(default=60, ge=1)
    """Passes over the training pictures."""
    batch_size: int = Field(default=64, ge=2)
    """Pictures a step; the last incomplete batch of an epoch is left out."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """auto: bfloat16 where the device multiplies it (CUDA, AVX512-BF16), 32 bits elsewhere."""
    channels_last: bool = True
    """Keep tensors in NHWC memory order."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the weights' moving average, reached gradually; 0 keeps the plain weights."""


class TrainConfig(Recipe):
    """The recipe of a variational or a plain autoencoder."""

    compile: bool = False
    """Compile the model with torch.compile."""
    picture_count: int = Field(default=64, ge=1)
    """Faces in each grid of samples."""
    data: DataConfig = DataConfig()
    """Which pictures."""
    model: AutoencoderConfig = AutoencoderConfig()
    """What the model is made of."""
    loss: LossConfig = LossConfig()
    """The objective."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW and its schedule."""
    prior: PriorConfig = PriorConfig()
    """The mixture fitted afterwards."""

    @model_validator(mode="after")
    def _adversary_has_a_start(self) -> "TrainConfig":
        if self.loss.adversarial_weight and not self.start_from:
            raise ValueError(
                "loss.adversarial_weight trains the decoder of a finished run on: give start_from"
            )
        return self


class ExpressionDataConfig(_Frozen):
    """Which labelled faces; all are aligned by five points to 48 x 48 grey."""

    reader: Literal["fer", "folder"] = "fer"
    """fer: FER2013 with FER+'s votes; folder: a subfolder of pictures for each expression."""
    root: str = "data"
    """The folder that holds the data set, or the data set itself."""
    majority: float = Field(default=0.6, gt=0, le=1)
    """The least share of a picture's votes that makes an expression its label."""


class ClassifierRecipe(Recipe):
    """The recipe of a classifier of expressions: a guide, or the judge."""

    epochs: int = Field(default=24, ge=1)
    """Epochs of as many draws as there are labelled training pictures."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the weights' moving average, reached gradually; 0 keeps the plain weights."""
    half: Literal["a", "b", "both"] = "both"
    """The half of the training pictures, by a hash of their names: judge and guides share none."""
    adversarial_radius: float = Field(default=0.0, ge=0)
    """Train on pictures changed to be mistaken, by up to this L2 distance; 0 leaves them."""
    adversarial_steps: int = Field(default=2, ge=1)
    """Steps of ascent to change a picture."""
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    """Share of the target that is spread over all expressions; the rest follows the votes."""
    data: ExpressionDataConfig = ExpressionDataConfig()
    """Which faces."""
    model: ClassifierConfig = ClassifierConfig()
    """What the model is made of."""
    optimizer: ClassifierOptimizerConfig = ClassifierOptimizerConfig()
    """AdamW and its schedule."""


class ExpressionRecipe(Recipe):
    """The recipe of an expression model."""

    epochs: int = Field(default=60, ge=1)
    """Times that checkpoint and pictures are written; see `steps_per_epoch`."""
    batch_size: int = Field(default=40, ge=2)
    """Faces a step, cut to a multiple of the number of expressions: as many of each."""
    steps_per_epoch: int = Field(default=500, ge=1)
    """Steps of an epoch; rare expressions come round more often than common ones."""
    unguided_steps: int = Field(default=4000, ge=0)
    """Steps before the guides join the teacher."""
    guides: tuple[str, ...] = ("runs/fer-guide-a", "runs/fer-guide-b")
    """Finished run folders of classifiers that edits have to convince; each tells the first of the
    model's expressions apart, and says nothing of further ones."""
    picture_count: int = Field(default=12, ge=1)
    """Faces on each sheet of transfers, and samples of each expression."""
    data: ExpressionDataConfig = ExpressionDataConfig()
    """Which faces."""
    model: ExpressionConfig = ExpressionConfig()
    """What the model is made of."""
    loss: ExpressionLossConfig = ExpressionLossConfig()
    """The objective."""
    optimizer: ExpressionOptimizerConfig = ExpressionOptimizerConfig()
    """AdamW and its schedule."""
    prior: PriorConfig = PriorConfig()
    """The mixture fitted afterwards."""

    @model_validator(mode="after")
    def _equal_runs_fit(self) -> "ExpressionRecipe":
        count = len(self.model.expressions)
        if self.batch_size < count:
            raise ValueError(f"batch_size {self.batch_size} is less than {count} expressions")
        if self.prior.labels:
            raise ValueError(
                "prior.labels are for autoencoders: here a decoder gives an expression"
            )
        return self


class AlignerDataConfig(_Frozen):
    """Which faces an aligner learns from."""

    readers: tuple[Literal["fer", "lfw", "celeba", "folder"], ...] = ("fer", "lfw", "celeba")
    """The data sets; a detector has to find their faces."""
    root: str = "data"
    """The folder that holds them."""


class ExamplesConfig(_Frozen):
    """How squares are moved before an aligner sees them."""

    shift: float = Field(default=0.12, ge=0, le=0.5)
    """The farthest that a square is moved along an axis, as a fraction of its side."""
    scale: tuple[float, float] = (0.75, 1.35)
    """A square's smallest and largest side, as multiples of the side it should have."""
    turn_degrees: tuple[float, float] = (30.0, 15.0)
    """The farthest that squares of the first and of the second pass are turned."""


class AlignerRecipe(Recipe):
    """The recipe of an aligner."""

    epochs: int = Field(default=20, ge=1)
    """Times that every face is seen."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the weights' moving average, reached gradually; 0 keeps the plain weights."""
    data: AlignerDataConfig = AlignerDataConfig()
    """Which faces."""
    examples: ExamplesConfig = ExamplesConfig()
    """How squares are moved."""
    model: AlignerConfig = AlignerConfig()
    """What the model is made of."""
    optimizer: AlignerOptimizerConfig = AlignerOptimizerConfig()
    """AdamW and its schedule."""


class MeshRecipe(Recipe):
    """The recipe of a mesh autoencoder."""

    epochs: int = Field(default=50, ge=1)
    """Passes over the training meshes."""
    batch_size: int = Field(default=8, ge=2)
    """Meshes a step; the last incomplete batch of an epoch is left out."""
    precision: Literal["auto", "32", "bf16"] = "32"
    """Millimetres of a face 250 mm high have more digits than bfloat16."""
    channels_last: bool = False
    """Meshes have no such order."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the weights' moving average, reached gradually; 0 keeps the plain weights."""
    picture_count: int = Field(default=4, ge=1)
    """Meshes on each sheet."""
    data: MeshDataConfig = MeshDataConfig()
    """Which meshes."""
    model: MeshConfig = MeshConfig()
    """What the model is made of."""
    loss: MeshLossConfig = MeshLossConfig()
    """The objective."""
    optimizer: MeshOptimizerConfig = MeshOptimizerConfig()
    """AdamW and its schedule."""
    prior: MixtureConfig = MixtureConfig()
    """The mixture fitted afterwards."""


AnyRecipe: TypeAlias = (
    TrainConfig | ClassifierRecipe | AlignerRecipe | ExpressionRecipe | MeshRecipe
)
"""A recipe of any kind; `model.kind` tells which."""
