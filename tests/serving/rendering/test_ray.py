"""A Ray cluster of one or two nodes on this machine: the bytes are those of one process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from facegen.serving.errors import (
    InputError,
    ServerError,
    StoppedError,
    WorkerError,
    WorkerLostError,
)
from facegen.serving.rendering.crews.crew import Crew
from facegen.serving.rendering.crews.ray_actor import Failed, RayActor
from facegen.serving.rendering.crews.ray_cluster import RayCrew
from facegen.serving.rendering.crews.ray_share import Share, share_of
from facegen.serving.rendering.job import RunConfig, job_from
from facegen.serving.rendering.output.journal import Journal
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.run import Run, State
from facegen.serving.rendering.session import Prepared, prepare, render
from tests.serving.rendering.data_sets import hashes

RenderSet = Callable[..., dict[str, Any]]


class Nodes:
    """A Ray cluster; see `ray_nodes`.

    Attributes:
        folder: What it writes of itself.
        address: Where nodes find it.
        client_address: Where others do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.client_address = f"ray://127.0.0.1:{port}"
        self._count = 1
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("ray_nodes.py"), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Not the one of the run, so that no path is right by chance.
            cwd=folder,
            env=os.environ | {"RAY_TMPDIR": str(folder)},
        )
        self.address = self._answer()

    def settle(self, count: int) -> None:
        """Have so many nodes."""
        while self._count < count:
            self._tell("add")
            self._count += 1
        while self._count > count:
            self.kill()

    def kill(self) -> None:
        """Kill a node, as a machine that loses its power."""
        self._tell("kill")
        self._count -= 1

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster without tokens, whether or not this machine has one."""
    # No deeper: the names of Ray's sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        nodes = Nodes(folder)
        yield nodes
        nodes.close()
    shutil.rmtree(folder)


class Watcher:
    """Sees a run, and counts what it loses."""

    def __init__(
        self,
        *,
        moved: Callable[[], None] = lambda: None,
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self._moved, self._finished = moved, finished
        self.losses: list[WorkerLostError] = []

    def moved(self, state: State) -> None:
        self._moved()

    def finished(self, record: ShardRecord, state: State) -> None:
        self._finished()

    def lost(self, order: ShardOrder, error: WorkerLostError) -> None:
        self.losses.append(error)


def once(callback: Callable[[], None]) -> Callable[[], None]:
    """Call back the first time only."""
    left = [callback]
    return lambda: left.pop()() if left else None


def until(condition: Callable[[], bool]) -> None:
    """Look again and again, as a run does."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.05)


def prepared_set(
    repository: Path, out: object, ray: str, **fields: Any
) -> tuple[Prepared, RunConfig]:
    config = RunConfig(out=str(out), engine=f"onnx:{repository}", ray=ray, threads=1)
    job = job_from({"kind": "generate", "family": "hand-vae", **fields})
    return prepare(job, config), config


@contextmanager
def crew_of(prepared: Prepared, config: RunConfig, *, worker_count: int) -> Iterator[RayCrew]:
    """A crew, once so many workers are ready; the data set is begun."""
    Journal(config.out).begin(prepared.plan, resume=False)
    with RayCrew(prepared.plan, config) as crew:
        until(lambda: crew.capacity == 2 * worker_count)
        yield crew


def run(crew: Crew, prepared: Prepared, config: RunConfig, watcher: Watcher) -> dict[str, Any]:
    journal = Journal(config.out)
    return Run(
        prepared.plan, journal, prepared.names, done={}, crew=crew, observer=watcher
    ).finish()


# The third, Parquet, is what the lost node below writes.
@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["png", "webdataset"])
def test_two_nodes_write_the_bytes_of_one_process(
    nodes: Nodes,
    hand_repository: Path,
    render_set: RenderSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_format: str,
) -> None:
    nodes.settle(2)
    fields = {"count": 400, "shard_size": 40, "format": file_format, "seed": 5}
    render_set(tmp_path / "whole", **fields)
    monkeypatch.chdir(tmp_path)
    # A relative folder is one of this process, whatever a worker's is.
    prepared, config = prepared_set(hand_repository, "set", nodes.address, **fields)
    before = signal.getsignal(signal.SIGTERM)

    with crew_of(prepared, config, worker_count=2) as crew:
        manifest = run(crew, prepared, config, Watcher())

    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")
    assert len({shard["worker"] for shard in manifest["shards"]}) == 2
    assert manifest["environment"]["workers"] == 2
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_the_shards_of_a_node_that_is_lost_are_rendered_elsewhere(
    nodes: Nodes, hand_repository: Path, render_set: RenderSet, tmp_path: Path
) -> None:
    nodes.settle(2)
    # So large that each worker has some under way when the node goes.
    fields = {"count": 12_000, "shard_size": 2_000, "format": "parquet"}
    render_set(tmp_path / "whole", **fields)
    prepared, config = prepared_set(hand_repository, tmp_path / "set", nodes.address, **fields)
    watcher = Watcher(moved=once(nodes.kill))

    with crew_of(prepared, config, worker_count=2) as crew:
        manifest = run(crew, prepared, config, watcher)

    assert 1 <= len(watcher.losses) <= 2
    assert manifest["environment"]["workers"] == 1
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")


@pytest.mark.slow
def test_a_node_that_comes_gets_work(nodes: Nodes, hand_repository: Path, tmp_path: Path) -> None:
    nodes.settle(1)
    prepared, config = prepared_set(
        hand_repository, tmp_path / "set", nodes.address, count=60, shard_size=10
    )
    orders = prepared.plan.orders(())

    with crew_of(prepared, config, worker_count=1) as crew:
        first = crew.submit(orders[0]).result()
        nodes.settle(2)
        until(lambda: crew.capacity == 4)
        rest = [crew.submit(order) for order in orders[1:5]]
        workers = {future.result().worker for future in rest}

    assert len(workers) == 2
    assert first.worker in workers


@pytest.mark.slow
def test_a_run_from_outside_the_cluster_is_stopped_and_goes_on_without_it(
    nodes: Nodes, hand_repository: Path, render_set: RenderSet, tmp_path: Path
) -> None:
    fields = {"count": 4_000, "shard_size": 100, "format": "webdataset"}
    render_set(tmp_path / "whole", **fields)
    prepared, config = prepared_set(
        hand_repository, tmp_path / "set", nodes.client_address, **fields
    )
    terminate = once(lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(StoppedError):
        render(prepared, config, Watcher(finished=terminate))

    assert list((tmp_path / "set" / ".render" / "staging").iterdir()) == []
    manifest = render_set(tmp_path / "set", resume=True, **fields)
    assert 100 <= manifest["timings"]["resumed_after_items"] < 4_000
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")


@pytest.mark.slow
def test_the_cluster_of_the_machine_is_found_and_a_folder_it_does_not_see_is_refused(
    nodes: Nodes, hand_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(nodes.folder))
    prepared, config = prepared_set(hand_repository, tmp_path / "set", "auto", count=20)

    with (
        RayCrew(prepared.plan, config) as crew,
        pytest.raises(WorkerError) as error,
    ):
        until(lambda: crew.capacity > 0)

    assert str(error.value) == (
        f"on {socket.gethostname()}: {tmp_path}/set is not the data set's folder here; "
        "use a folder that all machines mount, or a URL such as s3://bucket/faces"
    )


def test_photos_that_a_node_does_not_see_are_refused(
    hand_repository: Path, hand_photos: Path, tmp_path: Path
) -> None:
    photos = shutil.copytree(hand_photos, tmp_path / "photos")
    prepared, config = prepared_set(
        hand_repository, tmp_path / "set", "", kind="reconstruct", input=str(photos)
    )
    Journal(config.out).begin(prepared.plan, resume=False)
    shutil.rmtree(photos)

    answer = RayActor(prepared.plan, config, prepared.plan.digest).open()

    assert isinstance(answer, Failed)
    assert f"there is no {photos} here; use a folder that all machines mount" in answer.message


def test_a_cluster_that_is_not_there_is_told_of_at_once(
    hand_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)

    for ray in (address, f"ray://{address}", "auto"):
        prepared, config = prepared_set(hand_repository, tmp_path / "set", ray, count=1)
        with pytest.raises(ServerError, match=rf"no Ray cluster answers at \S*{address}; start"):
            RayCrew(prepared.plan, config)


@pytest.mark.parametrize("ray", ["yes", "ray://host", "http://host:1", "host:many"])
def test_what_is_no_address_is_refused(hand_repository: Path, tmp_path: Path, ray: str) -> None:
    prepared, config = prepared_set(hand_repository, tmp_path / "set", ray, count=1)

    with pytest.raises(InputError, match=f'ray: "{ray}" is no address; use auto, HOST:PORT or'):
        RayCrew(prepared.plan, config)


@pytest.mark.parametrize(
    ("settings", "nodes", "share", "room"),
    [
        ({}, [{"CPU": 2}, {"CPU": 64}, {"memory": 1e9}], Share(2), 33),
        ({}, [{"CPU": 12}, {"CPU": 64}], Share(6), 12),
        ({}, [{"memory": 1e9}], Share(1), 0),
        ({"threads": 3}, [{"CPU": 2}, {"CPU": 64}], Share(3), 21),
        ({"device": "cuda"}, [{"CPU": 64}, {"CPU": 48, "GPU": 8}], Share(6, gpus=1), 8),
        ({"device": "cuda"}, [{"CPU": 64, "GPU": 2}], Share(8, gpus=1), 2),
        ({"engine": "triton://host:8001"}, [{"CPU": 4}], Share(1), 4),
    ],
)
def test_nodes_are_cut_into_equal_workers(
    settings: Mapping[str, Any],
    nodes: Sequence[Mapping[str, float]],
    share: Share,
    room: int,
) -> None:
    config = RunConfig(out="set", ray="auto", **settings)

    assert share_of(config, nodes) == share
    assert sum(share.fits(node) for node in nodes) == room


def test_a_missing_package_is_named(
    hand_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, config = prepared_set(hand_repository, tmp_path / "set", "auto", count=1)
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(InputError, match=r"pip install 'facegen\[render,ray\]'"):
        RayCrew(prepared.plan, config)


@pytest.mark.slow
def test_where_there_is_no_cluster_the_command_starts_one_and_ends_it(
    hand_repository: Path, render_set: RenderSet, tmp_path: Path
) -> None:
    render_set(tmp_path / "whole", count=60, shard_size=10)
    command = [str(Path(sys.executable).with_name("facegen")), "render", "generate", "--json"]
    flags = ["--family", "hand-vae", "--count", "60", "--shard-size", "10", "--ray", "auto"]
    places = ["--engine", f"onnx:{hand_repository}", "--out", str(tmp_path / "set")]

    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        done = subprocess.run(
            [*command, *flags, *places],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"RAY_TMPDIR": folder, "HOME": folder},
        )

    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert events.count("shard") == 6
    assert done.stderr == ""
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")
