"""A Ray cluster as crews see it: nodes, actors, and futures whose errors are ours.

No other module sees Ray. It prints nothing here and leaves the signals to the run. Its client has
no error of its own for a cluster that is gone, so whatever else it raises is taken for that.
"""

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from facegen.serving.errors import InputError, ServerError, WorkerError, WorkerLostError
from facegen.serving.onnx.cpus import available_cpu_count

__all__ = ["RayConnection", "RemoteActor", "current_node"]

_ANSWER_S = 5.0
# About the least that Ray takes; no more than orders and records passes through it.
_OBJECT_STORE_BYTES = 100 * 2**20
_QUIET: Mapping[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


class RayConnection:
    """A cluster that this process is connected to.

    Args:
        where: `auto`: the cluster that RAY_ADDRESS names, else the one of this machine, else a new
            one with the CPUs that are really available; or HOST:PORT, of a cluster that this
            machine is part of; or ray://HOST:PORT, of any.

    Raises:
        InputError: It is no address, or Ray is not installed.
        ServerError: The cluster cannot be reached or started.
    """

    def __init__(self, where: str) -> None:
        self._ray = _ray()
        self._own = not self._ray.is_initialized()
        if not self._own:
            return
        address = os.environ.get("RAY_ADDRESS", "") if where == "auto" else where
        if address and not _answers(address):
            raise ServerError(
                f"no Ray cluster answers at {address}",
                "start one there (ray start --head), or give the address of another",
            )
        # Ray takes SIGTERM for itself.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self._connect(address)
        except Exception as error:  # see above
            why = " ".join(str(error).split())
            raise ServerError(
                f"the Ray cluster {address or 'of this machine'} cannot be used: {why}",
                "have the same Python and Ray everywhere; and from a machine that is no node of "
                "it, use --ray ray://HOST:10001",
            ) from error
        finally:
            if signal.getsignal(signal.SIGTERM) is not handler:
                signal.signal(signal.SIGTERM, handler)

    def _connect(self, address: str) -> None:
        if address:
            self._ray.init(address, **_QUIET)
        elif (current := _current_address()) and _answers(current):
            # It finds the same, and takes the token that it has left for itself.
            self._ray.init(**_QUIET)
        else:
            self._ray.init(
                "local",
                num_cpus=available_cpu_count(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **_QUIET,
            )

    def nodes(self) -> list[Mapping[str, float]]:
        """Tell the resources of the nodes, such as `CPU` and `GPU`, in use or not.

        Raises:
            WorkerError: The cluster is gone.
        """
        try:
            return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        except Exception as error:  # see above
            raise _explained(error, self._ray.exceptions) from error

    def start(self, kind: type, *arguments: Any, cpus: int, gpus: int, calls: int) -> "RemoteActor":
        """Begin an actor, as soon as a node has room for it.

        Args:
            kind: Its class.
            arguments: Of the class.
            cpus: CPUs that it takes.
            gpus: GPUs that it takes.
            calls: How many calls it answers at a time.
        """
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": calls}
        return RemoteActor(self._ray.remote(**options)(kind).remote(*arguments), self._ray)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._own:
            self._own = False
            self._ray.shutdown()


class RemoteActor:
    """An actor; nothing here waits for it.

    Args:
        handle: Ray's.
        ray: Ray.
    """

    def __init__(self, handle: Any, ray: Any) -> None:
        self._handle, self._ray = handle, ray

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method.

        The future gets what it returns, or one of these errors:

        WorkerLostError: The actor or its node ended.
        WorkerError: It cannot begin, what it did failed, or the cluster is gone.
        """
        future: Future[Any] = Future()
        exceptions = self._ray.exceptions

        def answered(answer: Future[Any]) -> None:
            error = answer.exception()
            if error is None:
                future.set_result(answer.result())
            else:
                future.set_exception(_explained(error, exceptions))

        try:
            getattr(self._handle, method).remote(*arguments).future().add_done_callback(answered)
        except Exception as error:  # see above
            future.set_exception(_explained(error, exceptions))
        return future

    def kill(self) -> None:
        """End it, whatever it does."""
        with suppress(Exception):  # see above
            self._ray.kill(self._handle)


def current_node() -> str:
    """Tell the node that this actor is on."""
    return str(_ray().get_runtime_context().get_node_id())


def _explained(error: BaseException, exceptions: Any) -> WorkerError:
    """Turn an error of Ray's into ours."""
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, exceptions.RayTaskError):
        return WorkerError(str(error))
    if isinstance(error, exceptions.RayActorError) and error.actor_init_failed:
        return WorkerError(
            f"a worker cannot begin: {lines[-1]}; install the same packages on every node of the "
            "cluster"
        )
    if isinstance(error, exceptions.RayError):
        return WorkerLostError(lines[-1])
    why = error.details() if isinstance(error, grpc.Call) else lines[0]
    return WorkerError(f"the Ray cluster is gone: {why}; start it again, and go on with --resume")


def _ray() -> Any:
    """Import Ray, told to print nothing.

    Raises:
        InputError: It is not installed.
    """
    # It must know before it is imported. Of lost nodes it tells on stdout, which is for results,
    # unless lines are skipped; and in place of a cluster that is gone it would start a new one.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError(
            "ray", "the package ray is missing; pip install 'facegen[render,ray]'"
        ) from error
    return ray


def _answers(address: str) -> bool:
    """Tell whether something listens at an address: Ray itself tries for many minutes.

    Raises:
        InputError: It is no address. Never right.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("", "ray"):
        raise InputError(
            "ray", f'"{address}" is no address; use auto, HOST:PORT or ray://HOST:PORT'
        )
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def _current_address() -> str:
    """Read what `ray start` left of the cluster of this machine, which may have ended; or ``."""
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        return (folder / "ray" / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
