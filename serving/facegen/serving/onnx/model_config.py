"""Reads a model's configuration, Triton's `ModelConfig`, and refuses what cannot be served here."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from facegen.serving.errors import BackendError, InputError, RepositoryError

__all__ = ["parse_json_config", "read_config", "settle_backend"]

_LOGGER = logging.getLogger(__name__)

_BACKEND = "onnxruntime"
_PLATFORM = "onnxruntime_onnx"
_GRAPH_NAME = "model.onnx"


def read_config(path: Path) -> Any:
    """Read a config.pbtxt; a missing one is an empty one, as in Triton.

    Fields that this version of the format does not have are passed over with a warning.

    Raises:
        RepositoryError: It cannot be read, or is no `ModelConfig`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return model_config_pb2.ModelConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(path, f"cannot be read: {error}", "correct it") from error
    try:
        return _parse(text, text_format.Parse, "allow_unknown_field", str(path))
    except text_format.ParseError as error:
        raise RepositoryError(
            path, f"is no ModelConfig in protobuf's text format: {error}", "correct it"
        ) from error


def parse_json_config(name: str, text: str) -> Any:
    """Read a `ModelConfig` in JSON, as a load request brings it.

    Raises:
        InputError: It is none.
    """
    try:
        return _parse(text, json_format.Parse, "ignore_unknown_fields", f'request for "{name}"')
    except (json_format.ParseError, RecursionError) as error:
        raise InputError("config", f"is no ModelConfig in JSON: {error}") from error


def _parse(text: str, parse: Callable[..., Any], lenient: str, source: str) -> Any:
    try:
        return parse(text, model_config_pb2.ModelConfig())
    except (text_format.ParseError, json_format.ParseError) as error:
        config = parse(text, model_config_pb2.ModelConfig(), **{lenient: True})
        _LOGGER.warning("configuration has unknown fields source=%s problem=%s", source, error)
        return config


def settle_backend(path: Path, config: Any, name: str, *, has_graph: bool) -> None:
    """Fill in name, backend, platform and file name as Triton does, and refuse other backends.

    Args:
        path: Where the configuration comes from, for messages.
        config: The `ModelConfig`, changed in place.
        name: The model's name.
        has_graph: Whether a version's folder holds a model.onnx.

    Raises:
        BackendError: Another backend must serve it.
        RepositoryError: It asks for what the ONNX engine cannot do.
    """
    if config.name not in ("", name):
        raise RepositoryError(
            path, f'its name is "{config.name}", its folder\'s "{name}"', "make them equal"
        )
    config.name = name
    if not config.backend and _looks_like_onnx(config, has_graph=has_graph):
        config.backend = _BACKEND
    if not (config.backend or config.platform):
        raise RepositoryError(
            path, "names no backend, and no version has a model.onnx", "add the graph"
        )
    if config.backend != _BACKEND or config.platform not in ("", _PLATFORM):
        raise BackendError(path, config.platform or config.backend)
    config.platform = _PLATFORM
    config.default_model_filename = config.default_model_filename or _GRAPH_NAME
    if "/" in config.default_model_filename or config.default_model_filename in (".", ".."):
        raise RepositoryError(
            path,
            f'its default_model_filename is "{config.default_model_filename}"',
            "name a file in the version's folder",
        )
    _refuse_unsupported(path, config)


def _looks_like_onnx(config: Any, *, has_graph: bool) -> bool:
    if config.platform or config.default_model_filename:
        return bool(config.platform == _PLATFORM or config.default_model_filename == _GRAPH_NAME)
    return has_graph


def _refuse_unsupported(path: Path, config: Any) -> None:
    """Refuse what would change answers; warn of what changes speed at most."""
    if config.max_batch_size < 0:
        raise RepositoryError(
            path, f"its max_batch_size is {config.max_batch_size}", "set it to 0 or more"
        )
    refused = {
        "sequence_batching": config.HasField("sequence_batching"),
        "batch_input": config.batch_input,
        "batch_output": config.batch_output,
        "model_operations": config.HasField("model_operations"),
        "model_repository_agents": config.HasField("model_repository_agents"),
        "model_transaction_policy.decoupled": config.model_transaction_policy.decoupled,
        "input.allow_ragged_batch": any(t.allow_ragged_batch for t in config.input),
        "input.is_shape_tensor": any(t.is_shape_tensor for t in config.input),
    }
    for field, there in refused.items():
        if there:
            raise RepositoryError(
                path, f"it sets {field}, which does not run here", "serve it with Triton"
            )
    ignored = {
        "response_cache": config.response_cache.enable,
        "optimization.execution_accelerators": config.optimization.HasField(
            "execution_accelerators"
        ),
        "instance_group.rate_limiter": any(
            group.HasField("rate_limiter") for group in config.instance_group
        ),
    }
    for field, there in ignored.items():
        if there:
            _LOGGER.warning("configuration asks for what is not here path=%s field=%s", path, field)
