"""The recipe of a run: presets in TOML, overrides from the command line, unknown keys refused."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from facegen.training.errors import ConfigurationError
from facegen.training.recipes import (
    AlignerRecipe,
    AnyRecipe,
    ClassifierRecipe,
    ExpressionRecipe,
    MeshRecipe,
    TrainConfig,
)

__all__ = ["config_to_toml", "load_config", "load_recipe", "preset_names", "read_toml"]

_RECIPES: Mapping[str, type[AnyRecipe]] = {
    "vae": TrainConfig,
    "autoencoder": TrainConfig,
    "classifier": ClassifierRecipe,
    "aligner": AlignerRecipe,
    "expression": ExpressionRecipe,
    "mesh": MeshRecipe,
}
_DEFAULT_KIND = "vae"


def preset_names() -> tuple[str, ...]:
    """Names of the packaged presets, sorted."""
    folder = resources.files("facegen.training") / "configs"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))


def load_config(source: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read an autoencoder's recipe; arguments and errors as for `load_recipe`."""
    recipe = load_recipe(source, overrides)
    if not isinstance(recipe, TrainConfig):
        raise ConfigurationError(
            source, f'is a recipe of kind "{recipe.model.kind}", not of an autoencoder'
        )
    return recipe


def load_recipe(source: str, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Read a preset or a TOML file and apply overrides.

    Args:
        source: A preset's name or the path of a TOML file.
        overrides: `key.sub=value` each; the value is TOML, or a bare string.

    Returns:
        The recipe of the kind that `model.kind` names.

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


def read_toml(text: str, *, source: str, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Parse a recipe; arguments and errors as for `load_recipe`."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(source, f"not TOML: {error}") from error
    settings = [_setting(override) for override in overrides]
    recipe = _recipe(values, settings, source=source)
    known = _known_keys(recipe)
    _check_keys(values, known, source=source)
    for key, value in settings:
        _apply(values, key, value, known=known)
    try:
        return recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(source, _explain(error)) from error


def config_to_toml(config: AnyRecipe) -> str:
    """Write a recipe with every key, so that later defaults cannot change it."""
    return tomli_w.dumps(config.model_dump(mode="json"))


def _recipe(
    values: Mapping[str, Any], settings: Sequence[tuple[str, Any]], *, source: str
) -> type[AnyRecipe]:
    table = values.get("model", {})
    kind = table.get("kind", _DEFAULT_KIND) if isinstance(table, Mapping) else _DEFAULT_KIND
    for key, value in settings:
        if key == "model.kind":
            source, kind = "--set", value
    if not isinstance(kind, str) or kind not in _RECIPES:
        raise ConfigurationError(source, f"model.kind = {kind!r}: not one of {', '.join(_RECIPES)}")
    return _RECIPES[kind]


def _known_keys(model: type[BaseModel], prefix: str = "") -> dict[str, bool]:
    keys: dict[str, bool] = {}
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            keys[prefix + name] = True
            keys |= _known_keys(nested, f"{prefix}{name}.")
        else:
            keys[prefix + name] = False
    return keys


def _check_keys(
    values: Mapping[str, Any], known: Mapping[str, bool], *, source: str, prefix: str = ""
) -> None:
    for name, value in values.items():
        key = prefix + name
        if key not in known:
            raise ConfigurationError(source, _unknown(key, known))
        if known[key] and isinstance(value, Mapping):
            _check_keys(value, known, source=source, prefix=f"{key}.")


def _unknown(key: str, known: Mapping[str, bool]) -> str:
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    near += [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2] and k not in near]
    return f'unknown key "{key}"' + (f"; near: {', '.join(near)}" if near else "")


def _setting(override: str) -> tuple[str, Any]:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigurationError("--set", f'"{override}" is not key=value')
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return key.strip(), value


def _apply(values: dict[str, Any], key: str, value: Any, *, known: Mapping[str, bool]) -> None:
    if known.get(key, True):
        raise ConfigurationError(
            "--set",
            _unknown(key, known)
            if key not in known
            else f'"{key}" is a table; set one of its keys',
        )
    *tables, name = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
    values[name] = value


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc'])} = {e['input']!r}: {e['msg']}"
        for e in error.errors()
    )
