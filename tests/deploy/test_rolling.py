"""Three replicas behind a real Envoy lose nothing: restarts, a new version, `kill -9`.

Clients have their default retries. Every answer is compared with that of a server without load.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.replicas import Envoy, Replica, envoy, replicas, wait_until
from benchmarks.rollout import keep_versions, roll_out
from benchmarks.traffic import (
    Answer,
    Job,
    Record,
    drawing,
    encoding,
    reference,
    streaming,
    traffic,
    transferring,
)
from facegen.client import RAW_PIXELS, Client, Image
from tests.serving.family_graphs import (
    EXPRESSION_FAMILY,
    PLAIN_FAMILY,
    SIZE_PX,
    write_expression_family,
    write_plain_family,
)

_COUNT = 3
_FLAGS = ("--model-control", "poll", "--poll-s", "0.2", "--drain-delay-s", "3")
_RAMP = (np.arange(SIZE_PX * SIZE_PX) % 251).astype(np.uint8).tobytes()
_PHOTO = Image(_RAMP, RAW_PIXELS, height_px=SIZE_PX, width_px=SIZE_PX, channel_count=1)
# More than flow control holds on its way, so that a stream is under way until it is read.
_LONG = 4000

JOBS: Sequence[Job] = (
    drawing(PLAIN_FAMILY, 1),
    drawing(PLAIN_FAMILY, 100),
    encoding(_PHOTO, family=EXPRESSION_FAMILY),
    transferring(_PHOTO, family=EXPRESSION_FAMILY, finding="cropped"),
    streaming(PLAIN_FAMILY, 1000),
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas of one repository, and the Envoy in front of them."""

    repository: Path
    replicas: list[Replica]
    envoy: Envoy

    def wait_until_all_are_healthy(self) -> None:
        ports = {replica.port for replica in self.replicas}
        wait_until(lambda: self.envoy.healthy_ports() == ports, "all being healthy")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    repository = folder / "models"
    repository.mkdir()
    write_plain_family(write_expression_family(repository))
    # What has begun with a version goes on with it.
    keep_versions(repository, 2)
    with (
        replicas(repository, _COUNT, folder=folder, flags=_FLAGS) as started,
        envoy([replica.port for replica in started], folder=folder) as front,
    ):
        running = Fleet(repository, started, front)
        running.wait_until_all_are_healthy()
        yield running


@contextmanager
def _held_to(right: set[Answer], fleet: Fleet) -> Iterator[Record]:
    """Have traffic of every job in the block, and hold each answer to those that are right then."""
    with traffic(fleet.envoy.address, JOBS) as record:
        yield record
        calls = {answer.call for answer in right}
        wait_until(
            lambda: {answer.call for answer in tuple(record.answers)} == calls,
            "a call of each kind",
        )
    assert record.failures == []
    assert record.wrong(right) == []


def _brighter(name: str, graph: bytes) -> bytes:
    """A version of `hand-vae` that draws 30 levels more."""
    model = onnx.load_from_string(graph)
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        if name.endswith("decoder") and values.size == SIZE_PX * SIZE_PX:
            constant.CopyFrom(numpy_helper.from_array(values + np.float32(30), constant.name))
    brighter: bytes = model.SerializeToString()
    return brighter


def test_stream_goes_on_when_its_replica_is_killed(fleet: Fleet) -> None:
    with Client(fleet.envoy.address, timeout_s=60) as client:
        faces = client.generate_stream(_LONG, family=PLAIN_FAMILY, seed=5, mime_type=RAW_PIXELS)
        seen = [next(faces)]
        (busy,) = [port for port, count in fleet.envoy.host_counts("rq_active").items() if count]
        (replica,) = [replica for replica in fleet.replicas if replica.port == busy]
        calls = fleet.envoy.count("http.grpc.downstream_rq_total")

        replica.kill()
        seen += list(faces)

        assert fleet.envoy.count("http.grpc.downstream_rq_total") == calls + 1
        last = client.generate(
            1, family=PLAIN_FAMILY, seed=5, first_index=_LONG - 1, mime_type=RAW_PIXELS
        )
    assert [face.index for face in seen] == list(range(_LONG))
    assert seen[-1] == last.faces[0]
    replica.restart()
    fleet.wait_until_all_are_healthy()


@pytest.mark.slow
def test_replica_killed_under_load_loses_no_call(fleet: Fleet) -> None:
    right = reference(fleet.replicas[0].address, JOBS)

    with _held_to(right, fleet):
        for replica in fleet.replicas[:2]:
            replica.kill()
            replica.restart()
            fleet.wait_until_all_are_healthy()


@pytest.mark.slow
def test_restarts_one_by_one_and_a_new_version_between_lose_no_call(fleet: Fleet) -> None:
    right = reference(fleet.replicas[0].address, JOBS)

    with _held_to(right, fleet) as record:
        for number, replica in enumerate(fleet.replicas):
            assert replica.terminate() == 0
            replica.restart()
            fleet.wait_until_all_are_healthy()
            if number == 0:
                roll_out(fleet.repository, PLAIN_FAMILY, "2", make=_brighter)
                wait_until(lambda: _newest_versions(fleet) == {"2"}, "the new version")
        right |= reference(fleet.replicas[0].address, JOBS)

    assert record.versions() == {"1", "2"}
    pictures = {answer for answer in right if answer.call == "1 faces of seed 3"}
    assert len({answer.digest for answer in pictures}) == 2


def _newest_versions(fleet: Fleet) -> set[str]:
    versions = set()
    for replica in fleet.replicas:
        with Client(replica.address) as client:
            versions.add(client.model(PLAIN_FAMILY).version)
    return versions
