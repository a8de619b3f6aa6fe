"""The protocol's log settings: Triton's switches, for a log that has levels."""

import threading
from typing import Any

from tritonclient.grpc import service_pb2

from facegen.serving.errors import InputError, UnsupportedError
from facegen.serving.telemetry.logs import LogLevel, log_settings, set_level

__all__ = ["change_log", "log_message"]

# Each of Triton's switches and the level that it lets through. Here a level lets the severer ones
# through too, so that the switches which are on come before those which are off.
_LEVELS: dict[str, LogLevel] = {
    "log_error": "error",
    "log_warning": "warning",
    "log_info": "info",
    "log_verbose_level": "debug",
}
_VERBOSE = "log_verbose_level"
# Triton's other settings, and what they say here whatever a client wants.
_FIXED = {"log_file": "", "log_format": "ISO8601"}
_CHANGING = threading.Lock()


def log_message() -> Any:
    """Tell how the log is set."""
    response = service_pb2.LogSettingsResponse()
    for key, on in _switches().items():
        if key == _VERBOSE:
            response.settings[key].uint32_param = int(on)
        else:
            response.settings[key].bool_param = on
    for key, value in _FIXED.items():
        response.settings[key].string_param = value
    return response


def change_log(settings: Any) -> None:
    """Change how the log is set: all of it, or nothing if a setting is wrong.

    Args:
        settings: A `LogSettingsRequest`'s.

    Raises:
        InputError: A setting is unknown or of the wrong kind, or a level is off that a less severe
            one needs.
        UnsupportedError: A setting cannot be changed by a call.
    """
    wanted = {key: _read(key, setting) for key, setting in settings.items()}
    with _CHANGING:
        switches = _switches()
        switches |= {key: bool(value) for key, value in wanted.items() if key in _LEVELS}
        set_level(_level(switches))


def _switches() -> dict[str, bool]:
    on = list(_LEVELS.values()).index(log_settings().level)
    return {key: index <= on for index, key in enumerate(_LEVELS)}


def _level(switches: dict[str, bool]) -> LogLevel:
    """Find the level that the switches mean."""
    names = list(switches)
    on = [name for name in names if switches[name]]
    for name, needed in zip(on, names, strict=False):
        if name != needed:
            raise InputError(
                f'settings["{needed}"]', f"is off while {name} is on; switch both on or both off"
            )
    if not on:
        raise InputError('settings["log_error"]', "is off; errors are always logged, leave it on")
    return _LEVELS[on[-1]]


def _read(key: str, setting: Any) -> bool | int | str:
    """Give a setting's value, of the right kind and possible."""
    kind = setting.WhichOneof("parameter_choice")
    field = f'settings["{key}"]'
    wanted = dict.fromkeys(_LEVELS, "bool_param") | dict.fromkeys(_FIXED, "string_param")
    wanted[_VERBOSE] = "uint32_param"
    if key not in wanted:
        raise InputError(field, f"is unknown; known are {', '.join(wanted)}")
    if kind != wanted[key]:
        raise InputError(field, f"is {kind or 'empty'}; give {wanted[key]}")
    value: bool | int | str = getattr(setting, kind)
    if key in _FIXED and value != _FIXED[key]:
        raise UnsupportedError(
            f'{key} cannot be changed by a call to "{value}"',
            "log lines go to standard error with times by ISO 8601; see --log-format",
        )
    return value
