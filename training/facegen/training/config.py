"""The recipe of a run: presets in TOML, overrides from the command line, unknown keys refused."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facegen.training.autoencoder import AutoencoderConfig
from facegen.training.errors import ConfigurationError

__all__ = [
    "DataConfig",
    "LossConfig",
    "OptimizerConfig",
    "PriorConfig",
    "TrainConfig",
    "config_to_toml",
    "load_config",
    "preset_names",
    "read_toml",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataConfig(_Frozen):
    """Which pictures, and how they reach the model."""

    reader: Literal["celeba", "lfw", "fer", "folder"] = "celeba"
    """The layout on disk."""
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
    adversarial_weight: float = Field(default=0.0, ge=0)
    """Weight of a patch critic's judgement for every value of an image; meant for fine-tuning."""
    ssim_weight: float = Field(default=0.0, ge=0)
    """Weight of 1 − SSIM for every value of an image, beside reconstruction's nats a value."""


class OptimizerConfig(_Frozen):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest learning rate."""
    critic_learning_rate: float = Field(default=4e-4, gt=0)
    """The highest learning rate of the critic, where there is one."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled decay of weights; biases and normalisations have none."""
    schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
    """How the learning rate goes after the warm-up."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear growth to the highest learning rate."""
    gradient_clip_norm: float = Field(default=5.0, ge=0)
    """Longest gradient, of the loss per image value; 0 never clips."""


class PriorConfig(_Frozen):
    """The mixture that is fitted to the latents after training."""

    components: int = Field(default=10, ge=1)
    """Gaussians in the mixture, each with a full covariance."""
    candidates: tuple[int, ...] = ()
    """Component counts to choose from by BIC; empty takes `components`."""
    latents: Literal["samples", "means"] = "samples"
    """Fit to draws from the posteriors or to their means; an autoencoder's are the same."""
    flip: bool = True
    """Fit to the mirrored pictures too."""


class TrainConfig(_Frozen):
    """The whole recipe of a run."""

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
    """auto: bfloat16 on CUDA that has it, 32 bits elsewhere."""
    channels_last: bool = True
    """Keep tensors in NHWC memory order."""
    compile: bool = False
    """Compile the model with torch.compile."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the weights' moving average, reached gradually; 0 keeps the plain weights."""
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


def preset_names() -> tuple[str, ...]:
    """Names of the packaged presets, sorted."""
    folder = resources.files("facegen.training") / "configs"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))


def load_config(source: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a preset or a TOML file and apply overrides.

    Args:
        source: A preset's name or the path of a TOML file.
        overrides: `key.sub=value` each; the value is TOML, or a bare string.

    Returns:
        The recipe.

    Raises:
        ConfigurationError: Unknown source, key or a value that does not fit. Never right.
    """
    if source in preset_names():
        text = (resources.files("facegen.training") / "configs" / f"{source}.toml").read_text(
            "utf-8"
        )
    elif Path(source).is_file():
        text = Path(source).read_text("utf-8")
    else:
        raise ConfigurationError(
            source, f"neither a preset ({', '.join(preset_names())}) nor a TOML file"
        )
    return read_toml(text, source=source, overrides=overrides)


def read_toml(text: str, *, source: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Parse a recipe; arguments and errors as for `load_config`."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(source, f"not TOML: {error}") from error
    _check_keys(values, source=source)
    for override in overrides:
        _apply(values, override)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(source, _explain(error)) from error


def config_to_toml(config: TrainConfig) -> str:
    """Write a recipe with every key, so that later defaults cannot change it."""
    return tomli_w.dumps(config.model_dump(mode="json"))


def _known_keys(model: type[BaseModel] = TrainConfig, prefix: str = "") -> dict[str, bool]:
    keys: dict[str, bool] = {}
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            keys[prefix + name] = True
            keys |= _known_keys(nested, f"{prefix}{name}.")
        else:
            keys[prefix + name] = False
    return keys


def _check_keys(values: Mapping[str, Any], *, source: str, prefix: str = "") -> None:
    known = _known_keys()
    for name, value in values.items():
        key = prefix + name
        if key not in known:
            raise ConfigurationError(source, _unknown(key, known))
        if known[key] and isinstance(value, Mapping):
            _check_keys(value, source=source, prefix=f"{key}.")


def _unknown(key: str, known: Mapping[str, bool]) -> str:
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    near += [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2] and k not in near]
    return f'unknown key "{key}"' + (f"; near: {', '.join(near)}" if near else "")


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator:
        raise ConfigurationError("--set", f'"{override}" is not key=value')
    known = _known_keys()
    if known.get(key, True):
        raise ConfigurationError(
            "--set",
            _unknown(key, known)
            if key not in known
            else f'"{key}" is a table; set one of its keys',
        )
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *tables, name = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
    values[name] = value


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc'])} = {e['input']!r}: {e['msg']}"
        for e in error.errors()
    )
