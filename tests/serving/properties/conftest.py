"""One server of many models for all properties, and how many examples there are."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, settings

from tests.serving.family_graphs import (
    write_directions,
    write_expression_family,
    write_plain_family,
)
from tests.serving.mesh_graphs import linear_meshes, write_mesh_family
from tests.serving.properties.graphs import write_graphs

# More examples, and other ones each time: FACEGEN_TEST_EXAMPLES=20 pytest tests/serving/properties
_TIMES = int(os.environ.get("FACEGEN_TEST_EXAMPLES", "1"))

MOST_STREAMS, MOST_CALLS = 40, 60
"""The most calls under way, on one connection and altogether."""

SPARE = "spare"
"""A model that may be loaded and unloaded."""

MOVABLE = "vae-that-moves"
"""A family with directions; `tiny-vae` comes before it, and is the default."""


def examples(count: int) -> settings:
    """Say how many examples a property has."""
    return settings(
        max_examples=count * _TIMES,
        deadline=None,
        derandomize=_TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, tiny_repository: Path) -> Path:
    """The tiny families, one of expressions, one with directions, one of meshes, all graphs."""
    folder = tmp_path_factory.mktemp("properties") / "models"
    shutil.copytree(tiny_repository, folder)
    write_graphs(folder)
    write_expression_family(folder)
    write_directions(write_plain_family(folder, family=MOVABLE), family=MOVABLE)
    write_mesh_family(folder, linear_meshes())
    shutil.copytree(folder / "affine", folder / SPARE)
    return folder


@pytest.fixture(scope="session")
def server(repository: Path, serve: Callable[..., Any]) -> Iterator[Any]:
    """A server that allows everything."""
    flags = [
        *("--model-control", "explicit", "--load-models", "*", "--allow-admin"),
        *("--shared-memory", "--log-format", "json"),
        # So few that calls which stay under way for ever are noticed.
        *("--max-connection-streams", str(MOST_STREAMS), "--max-concurrent-calls", str(MOST_CALLS)),
    ]
    with serve(repository, *flags) as process:
        assert process.address, "".join(process.log)
        yield process
        process.terminate()
        assert process.wait() == 0, "".join(process.log)


@pytest.fixture(scope="session")
def channels(server: Any) -> Iterator[list[grpc.Channel]]:
    """Several connections to it."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    opened = [grpc.insecure_channel(server.address, options=options) for _ in range(3)]
    for channel in opened:
        grpc.channel_ready_future(channel).result(timeout=30)
    yield opened
    for channel in opened:
        channel.close()
