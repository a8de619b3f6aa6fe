"""The repository's index, and what comes with a request to load a model."""

from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import service_pb2

from facegen.serving.engine import VersionState
from facegen.serving.errors import InputError, UnsupportedError

__all__ = ["check_repository", "check_unload", "index_message", "read_load"]

_FILE = "file:"


def check_repository(name: str) -> None:
    """Refuse a request for one of several repositories.

    Raises:
        UnsupportedError: It names one.
    """
    if name:
        raise UnsupportedError(
            f'repository_name is "{name}", this server has one repository without a name',
            "leave it empty",
        )


def index_message(states: Iterable[VersionState], *, ready: bool) -> Any:
    """Write the index; if `ready`, of what is ready alone."""
    return service_pb2.RepositoryIndexResponse(
        models=[
            service_pb2.RepositoryIndexResponse.ModelIndex(
                name=state.name, version=state.version, state=state.state, reason=state.reason
            )
            for state in states
            if state.state == "READY" or not ready
        ]
    )


def read_load(parameters: Any) -> tuple[str, dict[str, bytes]]:
    """Read the config and the files, by `<version>/<file>`, that a load request brings.

    Raises:
        InputError: A parameter is unknown or of the wrong kind, or files come without a config.
    """
    config, files = "", {}
    for key in parameters:
        if key == "config":
            config = _read(parameters, key, "string_param")
        elif key.startswith(_FILE):
            files[key.removeprefix(_FILE)] = _read(parameters, key, "bytes_param")
        else:
            raise InputError(
                f'parameters["{key}"]', 'is unknown; give "config" or "file:VERSION/NAME"'
            )
    if files and not config:
        raise InputError("parameters", 'have files without "config"; give the model\'s config too')
    return config, files


def check_unload(parameters: Any) -> None:
    """Check what comes with an unload request; without ensembles nothing depends on a model.

    Raises:
        InputError: A parameter is of the wrong kind.
    """
    if "unload_dependents" in parameters:
        _read(parameters, "unload_dependents", "bool_param")


def _read(parameters: Any, key: str, kind: str) -> Any:
    given = parameters[key].WhichOneof("parameter_choice")
    if given != kind:
        raise InputError(f'parameters["{key}"]', f"is {given or 'empty'}; give {kind}")
    return getattr(parameters[key], kind)
