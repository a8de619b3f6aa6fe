"""The protocol's trace settings, for traces that go out over OTLP."""

from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from facegen.serving.errors import InputError, UnsupportedError
from facegen.serving.telemetry.trace_settings import TraceSettings, TraceValues

__all__ = ["change_traces", "trace_message"]

_FIELDS = {"trace_level": "on", "trace_rate": "rate", "trace_count": "count"}
# Triton's other settings, and what they say here whatever a client wants.
_FIXED = {"trace_mode": "opentelemetry", "trace_file": "", "log_frequency": "0"}
_MOST = 2**31 - 1


def trace_message(values: TraceValues) -> Any:
    """Tell which calls are traced."""
    response = service_pb2.TraceSettingResponse()
    settings = {
        "trace_level": "TIMESTAMPS" if values.on else "OFF",
        "trace_rate": str(values.rate),
        "trace_count": str(values.count),
        **_FIXED,
    }
    for key, value in settings.items():
        response.settings[key].value.append(value)
    return response


def change_traces(traces: TraceSettings, settings: Any, *, model: str) -> TraceValues:
    """Change which calls are traced: all of it, or nothing if a setting is wrong.

    Args:
        traces: What is changed.
        settings: A `TraceSettingRequest`'s; one without a value goes back to what it first was.
        model: The model that they are for; empty: all.

    Raises:
        InputError: A setting is unknown or wrong, or traces go nowhere.
        UnsupportedError: A setting cannot be changed by a call, or for one model.
    """
    if model:
        raise UnsupportedError(
            f'traces cannot be set for one model, "{model}"', "leave model_name empty"
        )
    changes: dict[str, bool | int] = {}
    for key, setting in settings.items():
        values = list(setting.value)
        if key in _FIXED:
            _check_fixed(key, values)
        elif key not in _FIELDS:
            known = ", ".join((*_FIELDS, *_FIXED))
            raise InputError(f'settings["{key}"]', f"is unknown; known are {known}")
        elif not values:
            changes[_FIELDS[key]] = getattr(traces.initial, _FIELDS[key])
        elif key == "trace_level":
            changes["on"] = _read_level(values, available=traces.available)
        else:
            changes[_FIELDS[key]] = _read_number(key, values)
    return traces.change(**changes)


def _read_level(values: Sequence[str], *, available: bool) -> bool:
    field = 'settings["trace_level"]'
    if list(values) == ["OFF"]:
        return False
    if list(values) != ["TIMESTAMPS"]:
        raise InputError(
            field, f"is {', '.join(values)}; give OFF or TIMESTAMPS: tensors are never traced"
        )
    if not available:
        raise InputError(field, "is TIMESTAMPS, traces go nowhere; start with --traces otlp")
    return True


def _read_number(key: str, values: Sequence[str]) -> int:
    least = 1 if key == "trace_rate" else -1
    try:
        (value,) = values
        number = int(value)
    except ValueError:
        number = least - 1
    if not least <= number <= _MOST:
        raise InputError(
            f'settings["{key}"]', f"is {', '.join(values)}; give one number of {least} or more"
        )
    return number


def _check_fixed(key: str, values: Sequence[str]) -> None:
    if list(values) not in ([], [_FIXED[key]]):
        raise UnsupportedError(
            f'{key} cannot be changed to "{", ".join(values)}"',
            "traces go out over OTLP, as the OTEL_ variables say",
        )
