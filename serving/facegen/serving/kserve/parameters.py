"""The parameters of requests, inputs and outputs: of the right kind, or refused."""

from collections.abc import Mapping
from typing import Any

from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError

__all__ = ["read_parameter", "read_request_parameters"]

_FINAL_RESPONSE = "triton_enable_empty_final_response"
# These would matter to sequence models, which none of ours is: as by Triton, they are only checked.
_SEQUENCE: Mapping[str, tuple[str, ...]] = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
}


def read_parameter(field: str, parameters: Any, key: str, *kinds: str) -> Any:
    """Give a parameter's value; None if it is not there.

    Args:
        field: Names what has the parameters, in errors.
        parameters: A map to `InferParameter`.
        key: The parameter.
        kinds: What it may be, of `InferParameter`'s fields.

    Raises:
        InputError: It is of another kind.
    """
    if key not in parameters:
        return None
    kind = parameters[key].WhichOneof("parameter_choice")
    if kind not in kinds:
        name = f'{field}["{key}"]'
        raise InputError(name, f"is {kind or 'empty'}; give {' or '.join(kinds)}")
    return getattr(parameters[key], kind)


def read_request_parameters(parameters: Any, context: CallContext) -> None:
    """Put a request's timeout and priority into its context.

    Parameters that are nobody's are left alone, as Triton does.

    Raises:
        InputError: One is of the wrong kind or value.
    """
    field = "parameters"
    timeout_us = read_parameter(field, parameters, "timeout", "int64_param")
    if timeout_us is not None:
        _check_sign("timeout", timeout_us)
        context.queue_timeout_s = timeout_us / 1e6  # 0 is none, here as there
    priority = read_parameter(field, parameters, "priority", "uint64_param", "int64_param")
    if priority is not None:
        _check_sign("priority", priority)
        context.priority = priority
    for key, kinds in _SEQUENCE.items():
        read_parameter(field, parameters, key, *kinds)
    read_parameter(field, parameters, _FINAL_RESPONSE, "bool_param")
    for key, value in parameters.items():
        _check_other(key, value)


def _check_sign(key: str, value: int) -> None:
    if value < 0:
        raise InputError(f'parameters["{key}"]', f"is {value}; give 0 or more")


def _check_other(key: str, value: Any) -> None:
    if key.startswith("triton_") and key != _FINAL_RESPONSE:
        raise InputError(
            f'parameters["{key}"]',
            f'begins with "triton_", which is reserved; only {_FINAL_RESPONSE} may',
        )
    if value.WhichOneof("parameter_choice") is None:
        raise InputError(f'parameters["{key}"]', "is empty; give it a value or leave it out")
