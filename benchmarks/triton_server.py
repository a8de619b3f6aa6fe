"""Starts a real NVIDIA Triton, from the `nvidia-pytriton` wheel that `make peers` installs.

The wheel holds the Python backend alone, so that it serves what
`facegen export --triton-backend python` writes.
"""

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

__all__ = ["TritonServer", "start_triton", "triton_problem"]

_ENVIRONMENT = Path(__file__).resolve().parent.parent / ".venv-triton"
_LISTENING = re.compile(r"Started GRPCInferenceService at ([\d.]+:\d+)")
_FLAGS = (
    "--grpc-address=127.0.0.1",
    "--allow-http=false",
    "--allow-metrics=false",
    "--allow-gpu-metrics=false",
)


@dataclass
class TritonServer:
    """A tritonserver as a process of its own; use as a context manager, or call `stop`.

    Attributes:
        process: The process.
        address: Host and port of its gRPC.
        log: The lines it has written.
    """

    process: subprocess.Popen[str]
    address: str = ""
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def await_ready(self, timeout_s: float) -> Self:
        """Wait until every model is loaded and its gRPC listens.

        Raises:
            RuntimeError: It ended before, or took longer; its log is in the message.
        """
        if not self._listening.wait(timeout_s) or not self.address:
            self.stop()
            raise RuntimeError("tritonserver did not start:\n" + "".join(self.log[-40:]))
        return self

    def stop(self) -> None:
        """End it; again is no harm."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        if self.process.stderr:
            self.process.stderr.close()

    def _read(self) -> None:
        # To the end: a pipe that fills up would stop the server.
        for line in self.process.stderr or ():
            self.log.append(line)
            if found := _LISTENING.search(line):
                self.address = found[1]
                self._listening.set()
        self._listening.set()


def start_triton(
    repository: Path,
    *,
    core: int | None = None,
    grpc_port: int = 0,
    explicit: bool = True,
    flags: Sequence[str] = (),
    timeout_s: float = 60.0,
) -> TritonServer:
    """Start tritonserver on loopback and wait until it serves.

    Args:
        repository: A model repository whose models have `backend: "python"`.
        core: The one CPU it may use; None: all.
        grpc_port: Where it listens; 0 takes a free port.
        explicit: Whether clients may load and unload models.
        flags: More of its flags; later ones win.
        timeout_s: The longest to wait.

    Raises:
        RuntimeError: It is not installed, or did not start.
    """
    if problem := triton_problem():
        raise RuntimeError(problem)
    packages = next(_ENVIRONMENT.glob("lib/python3.*/site-packages"))
    command = [
        *(["taskset", "--cpu-list", str(core)] if core is not None else []),
        str(packages / "pytriton/tritonserver/bin/tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={_backends(packages)}",
        f"--grpc-port={grpc_port or _free_port()}",
        *(["--model-control-mode=explicit", "--load-model=*"] if explicit else []),
        *_FLAGS,
        *flags,
    ]
    process = subprocess.Popen(
        command,
        env=_environment(packages),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return TritonServer(process).await_ready(timeout_s)


def triton_problem() -> str:
    """Say why no Triton can be started here; empty if one can."""
    if next(_ENVIRONMENT.glob("lib/python3.*/site-packages/pytriton/tritonserver"), None):
        return ""
    return f"no Triton in {_ENVIRONMENT}: run `make peers`"


def _backends(packages: Path) -> Path:
    """Put the Python backend and its stub for this Python into one folder, as Triton wants them."""
    wheel, folder = packages / "pytriton/tritonserver", _ENVIRONMENT / "backends"
    (folder / "python").mkdir(parents=True, exist_ok=True)
    version = packages.parent.name.removeprefix("python")
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    for source in (*(wheel / "backends/python").iterdir(), stub):
        with contextlib.suppress(FileExistsError):
            (folder / "python" / source.name).symlink_to(source)
    return folder


def _environment(packages: Path) -> dict[str, str]:
    """Let it find its libraries, libpython and the environment's Python."""
    binaries = _ENVIRONMENT / "bin"
    libpython = (binaries / "python").resolve().parent.parent / "lib"
    return {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{libpython}",
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
