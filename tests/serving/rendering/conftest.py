"""Data sets that are rendered by families written by hand, in this process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facegen.serving.rendering.job import RunConfig, job_from
from facegen.serving.rendering.output.records import ShardOrder, ShardRecord
from facegen.serving.rendering.run import State
from facegen.serving.rendering.session import prepare, render
from tests.serving.family_graphs import write_expression_family, write_plain_family
from tests.serving.mesh_graphs import linear_meshes, write_mesh_family

RenderSet = Callable[..., dict[str, Any]]


class Watcher:
    """Sees a run, and calls back for each shard that is done."""

    def __init__(self, finished: Callable[[], None]) -> None:
        self._finished = finished

    def moved(self, state: State) -> None: ...

    def finished(self, record: ShardRecord, state: State) -> None:
        self._finished()

    def lost(self, order: ShardOrder, error: Exception) -> None: ...


@pytest.fixture(scope="session")
def hand_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with all families written by hand: read it, do not change it."""
    repository = tmp_path_factory.mktemp("hand-repository")
    write_plain_family(write_expression_family(repository))
    return write_mesh_family(repository, linear_meshes())


@pytest.fixture(scope="session")
def hand_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight square photos of one level each, and one that is broken: read it only."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        level = np.full((64, 64, 3), 20 + 20 * number, np.uint8)
        Image.fromarray(level).save(folder / f"photo {number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def render_set(hand_repository: Path) -> RenderSet:
    """Render a job to a folder or URL; gives the manifest.

    The job is of the VAE written by hand, unless it names another family.
    """

    def render_job(
        out: object,
        *,
        resume: bool = False,
        finished: Callable[[], None] = lambda: None,
        **fields: Any,
    ) -> dict[str, Any]:
        settings: Mapping[str, Any] = {"kind": "generate", "family": "hand-vae", **fields}
        config = RunConfig(out=str(out), engine=f"onnx:{hand_repository}", threads=1, resume=resume)
        return render(prepare(job_from(dict(settings)), config), config, Watcher(finished))

    return render_job
