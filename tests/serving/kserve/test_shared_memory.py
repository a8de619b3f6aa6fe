import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.serving.kserve.conftest import ROW, StartServer, infer, set_parameters, tensor

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_NOT_FOUND = grpc.StatusCode.NOT_FOUND
_FOLDER = Path("/dev/shm")


@pytest.fixture
def segment() -> Iterator[Path]:
    """A shared memory file of three rows, the first of them 0, 1, 2, 3."""
    path = _FOLDER / f"facegen-test-{os.getpid()}"
    path.write_bytes(ROW + bytes(32))
    yield path
    path.unlink()


@pytest.fixture
def register(stub: Any) -> Iterator[Callable[..., None]]:
    """Register a part of a segment, by the name `region`."""

    def register(key: str, *, offset: int = 0, byte_size: int = 48, name: str = "region") -> None:
        stub.SystemSharedMemoryRegister(
            pb.SystemSharedMemoryRegisterRequest(
                name=name, key=key, offset=offset, byte_size=byte_size
            )
        )

    yield register
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())


Register = Callable[..., None]


def _place(offset: int, byte_size: int, name: str = "region") -> dict[str, tuple[str, Any]]:
    return {
        "shared_memory_region": ("string_param", name),
        "shared_memory_byte_size": ("int64_param", byte_size),
        "shared_memory_offset": ("int64_param", offset),
    }


def _through(source: dict[str, Any] | None, target: dict[str, Any] | None) -> Any:
    """A request of a row whose input or output is in shared memory."""
    x = tensor()
    if source:
        set_parameters(x, source)
    request = infer("row", x, raw=() if source else (ROW,), outputs=("y",))
    if target:
        set_parameters(request.outputs[0], target)
    return request


def _code(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_tensors_go_through_regions_both_ways(stub: Any, register: Register, segment: Path) -> None:
    register(f"/{segment.name}")

    answer = stub.ModelInfer(_through(_place(0, 16), _place(32, 16)))

    assert segment.read_bytes() == ROW + bytes(16) + ROW
    assert list(answer.raw_output_contents) == [b""]
    assert list(answer.outputs[0].shape) == [1, 4]


def test_a_region_begins_anywhere_in_its_file(stub: Any, register: Register, segment: Path) -> None:
    register(segment.name, offset=8, byte_size=32)

    stub.ModelInfer(_through(None, _place(4, 28)))

    assert segment.read_bytes() == ROW[:12] + ROW + bytes(20)


def test_status_tells_what_is_registered(stub: Any, register: Register, segment: Path) -> None:
    register(segment.name, offset=16, byte_size=32)

    status = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="region"))

    region = status.regions["region"]
    assert (region.name, region.key) == ("region", segment.name)
    assert (region.offset, region.byte_size) == (16, 32)
    unknown = pb.SystemSharedMemoryStatusRequest(name="other")
    assert _code(lambda: stub.SystemSharedMemoryStatus(unknown)) == _NOT_FOUND


def test_a_name_is_registered_once_until_it_is_unregistered(
    stub: Any, register: Register, segment: Path
) -> None:
    register(segment.name)

    assert _code(lambda: register(segment.name)) == grpc.StatusCode.ALREADY_EXISTS
    for _ in range(2):
        stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="region"))
    register(segment.name)


@pytest.mark.parametrize(
    "key", ["", "/", "..", "/..", "/../etc/passwd", "../shm/x", "a/b", "//x", "x\0y", "."]
)
def test_a_key_cannot_leave_its_folder(register: Register, key: str) -> None:
    assert _code(lambda: register(key)) == _INVALID


def test_a_link_is_not_followed(register: Register, segment: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(48))
    link = _FOLDER / f"{segment.name}-link"
    link.symlink_to(tmp_path / "secret")

    try:
        assert _code(lambda: register(link.name)) == _NOT_FOUND
    finally:
        link.unlink()


def test_a_pipe_is_no_shared_memory(register: Register, segment: Path) -> None:
    pipe = _FOLDER / f"{segment.name}-pipe"
    os.mkfifo(pipe)

    try:
        assert _code(lambda: register(pipe.name)) == _INVALID
    finally:
        pipe.unlink()


@pytest.mark.parametrize(("offset", "byte_size"), [(0, 49), (48, 1), (0, 0), (2**63, 2**63)])
def test_a_region_lies_within_its_file(
    register: Register, segment: Path, offset: int, byte_size: int
) -> None:
    assert _code(lambda: register(segment.name, offset=offset, byte_size=byte_size)) == _INVALID


@pytest.mark.parametrize(
    ("offset", "byte_size"), [(33, 16), (-1, 16), (0, -16), (2**62, 2**62), (0, 15), (0, 17)]
)
def test_an_input_lies_within_its_region_and_has_its_size(
    stub: Any, register: Register, segment: Path, offset: int, byte_size: int
) -> None:
    register(segment.name)

    assert _code(lambda: stub.ModelInfer(_through(_place(offset, byte_size), None))) == _INVALID


def test_an_output_that_does_not_fit_its_place_is_refused_and_not_written(
    stub: Any, register: Register, segment: Path
) -> None:
    register(segment.name)

    assert _code(lambda: stub.ModelInfer(_through(None, _place(16, 15)))) == _INVALID
    assert segment.read_bytes() == ROW + bytes(32)


def test_a_region_cut_short_is_an_error_and_no_crash(
    stub: Any, register: Register, segment: Path
) -> None:
    register(segment.name)
    os.truncate(segment, 8)

    assert _code(lambda: stub.ModelInfer(_through(_place(0, 16), None))) == _NOT_FOUND
    assert _code(lambda: stub.ModelInfer(_through(None, _place(0, 16)))) == _NOT_FOUND
    assert segment.stat().st_size == 8
    stub.ModelInfer(infer())


def test_a_region_larger_than_memory_is_an_error(
    stub: Any, register: Register, segment: Path
) -> None:
    byte_size = 2**42
    os.truncate(segment, byte_size)
    register(segment.name, byte_size=byte_size)
    x = tensor("x", (1, byte_size), "UINT8")
    set_parameters(x, _place(0, byte_size))

    assert _code(lambda: stub.ModelInfer(infer("same-UINT8", x))) == _NOT_FOUND
    stub.ModelInfer(infer())


def test_unknown_regions_are_not_found(stub: Any) -> None:
    source, target = _through(_place(0, 16, "other"), None), _through(None, _place(0, 16, "other"))

    assert _code(lambda: stub.ModelInfer(source)) == _NOT_FOUND
    assert _code(lambda: stub.ModelInfer(target)) == _NOT_FOUND


def test_without_the_flag_it_is_refused_and_not_advertised(start_same: StartServer) -> None:
    server = start_same(allow_admin=True, model_control="explicit")
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = pb.SystemSharedMemoryRegisterRequest(name="r", key="k", byte_size=1)

        with pytest.raises(grpc.RpcError) as caught:
            stub.SystemSharedMemoryRegister(request)
        metadata = stub.ServerMetadata(pb.ServerMetadataRequest())
        status = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "--shared-memory" in (caught.value.details() or "")
    assert "system_shared_memory" not in metadata.extensions
    assert not status.regions


def test_cuda_memory_is_refused_and_none_is_there(stub: Any) -> None:
    register = pb.CudaSharedMemoryRegisterRequest(name="r", raw_handle=b"x", byte_size=1)

    assert _code(lambda: stub.CudaSharedMemoryRegister(register)) == grpc.StatusCode.UNIMPLEMENTED
    assert not stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()).regions
    named = pb.CudaSharedMemoryStatusRequest(name="r")
    assert _code(lambda: stub.CudaSharedMemoryStatus(named)) == _NOT_FOUND
    stub.CudaSharedMemoryUnregister(pb.CudaSharedMemoryUnregisterRequest())
