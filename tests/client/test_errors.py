from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # ships no py.typed
    BadRequest,
    ErrorInfo,
)

from facegen.client import (
    AsyncClient,
    CancelledError,
    Client,
    ClientError,
    DeadlineError,
    FailedPreconditionError,
    FileError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    Retry,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)

Make = Callable[..., Any]
ONCE = Retry(max_attempts=1)
ERRORS: dict[str, type[ClientError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "CANCELLED": CancelledError,
    "ABORTED": ServerError,
    "ALREADY_EXISTS": ServerError,
    "DATA_LOSS": ServerError,
    "INTERNAL": ServerError,
    "UNIMPLEMENTED": ServerError,
    "UNKNOWN": ServerError,
}


def test_every_status_has_an_error() -> None:
    assert set(ERRORS) == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize("code", ERRORS)
def test_status_becomes_its_error(scripted_server: Make, fail: Make, code: str) -> None:
    info = ErrorInfo(reason="SOME_REASON", domain="facegen")
    server = scripted_server(fail(grpc.StatusCode[code], info, message="it broke"))

    with (
        Client(server.address, retry=ONCE, timeout_s=9) as client,
        pytest.raises(ClientError) as caught,
    ):
        client.generate(1)

    assert type(caught.value) is ERRORS[code]
    assert caught.value.reason == "SOME_REASON"
    assert ("within 9 s" if code == "DEADLINE_EXCEEDED" else "it broke") in str(caught.value)


def test_invalid_request_names_the_field(scripted_server: Make, fail: Make) -> None:
    violation = BadRequest.FieldViolation(field="images[2]", description="not a picture")
    status = fail(grpc.StatusCode.INVALID_ARGUMENT, BadRequest(field_violations=[violation]))
    server = scripted_server(status)

    with Client(server.address) as client, pytest.raises(InvalidRequestError) as caught:
        client.generate(1)

    assert caught.value.field == "images[2]"


async def test_asyncio_client_raises_the_same_errors(scripted_server: Make, fail: Make) -> None:
    info = ErrorInfo(reason="MODEL_NOT_FOUND", domain="facegen")
    server = scripted_server(*[fail(grpc.StatusCode.NOT_FOUND, info, message="no such")] * 2)

    async with AsyncClient(server.address) as client:
        with pytest.raises(NotFoundError, match="no such") as caught:
            await client.generate(1)
        with pytest.raises(NotFoundError, match="no such"):
            _ = [face async for face in client.generate_stream(1)]

    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_silent_address_is_a_deadline_error_when_waiting_for_ready() -> None:
    with (
        Client("127.0.0.1:1", timeout_s=0.2, wait_for_ready=True) as client,
        pytest.raises(DeadlineError, match=r"127.0.0.1:1 within 0.2 s"),
    ):
        client.models()


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("count", {"count": -1}),
        ("count", {"count": 2**32}),
        ("seed", {"count": 1, "seed": -1}),
        ("seed", {"count": 1, "seed": 2**64}),
        ("first_index", {"count": 1, "first_index": -1}),
        ("quality", {"count": 1, "quality": 101}),
    ],
)
def test_number_that_fits_no_field_is_refused_before_the_call(
    field: str, arguments: dict[str, Any]
) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidRequestError) as caught:
        client.generate(**arguments)

    assert caught.value.field == field


def test_missing_picture_names_its_path() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(FileError, match=r"no/face\.jpg: No such"):
        client.reconstruct(["no/face.jpg"])
