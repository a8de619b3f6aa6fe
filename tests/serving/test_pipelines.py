import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.call_context import CallContext
from facegen.serving.errors import CallCancelledError, DeadlineError
from facegen.serving.faces.family import Family, find_family
from facegen.serving.faces.pipelines import Draw, Pipelines
from facegen.serving.onnx.engine import OnnxEngine


@pytest.fixture
def pipelines(tiny_repository: Path) -> Iterator[Pipelines]:
    with OnnxEngine(tiny_repository) as engine:
        yield Pipelines(engine)


@pytest.fixture
def vae(pipelines: Pipelines) -> Family:
    return find_family(pipelines.families, "tiny-vae")


def _draw(count: int, *, first_index: int = 0, seed: int = 7, temperature: float = 1.0) -> Draw:
    return Draw(seed, first_index, count, temperature, "normal")


def test_generated_pictures_are_those_of_their_latents(pipelines: Pipelines, vae: Family) -> None:
    faces = pipelines.generate(vae, _draw(5))

    assert faces.latents.shape == (5, vae.latent_size)
    assert faces.pixels.shape == (5, 64, 64, 3)
    assert (pipelines.decode(vae, faces.latents) == faces.pixels).all()


def test_face_depends_on_seed_and_index_alone(pipelines: Pipelines, vae: Family) -> None:
    together = pipelines.generate(vae, _draw(20))

    alone = [pipelines.generate(vae, _draw(1, first_index=i)) for i in range(20)]
    other = pipelines.generate(vae, _draw(20, seed=8))

    assert (np.concatenate([faces.pixels for faces in alone]) == together.pixels).all()
    assert (other.latents != together.latents).any(axis=1).all()


def test_temperature_scales_the_noise(pipelines: Pipelines, vae: Family) -> None:
    warm = pipelines.generate(vae, _draw(4))
    cool = pipelines.generate(vae, _draw(4, temperature=0.5))
    still = pipelines.generate(vae, _draw(4, temperature=0))

    assert cool.latents == pytest.approx(warm.latents / 2)
    assert not still.latents.any()


def test_every_prior_draws_its_own_faces(pipelines: Pipelines, vae: Family) -> None:
    draws = [Draw(7, 0, 4, 1.0, prior) for prior in vae.priors]

    faces = [pipelines.generate(vae, draw) for draw in draws]

    assert len(faces) == 2
    assert (faces[0].latents != faces[1].latents).any()


def test_chunks_are_the_faces_of_one_call(pipelines: Pipelines, vae: Family) -> None:
    together = pipelines.generate(vae, _draw(150, first_index=5))

    chunks = list(pipelines.generate_chunks(vae, _draw(150, first_index=5)))

    assert len(chunks) > 1
    assert [draw.first_index for draw, _ in chunks][:2] == [5, 5 + chunks[0][0].count]
    assert (np.concatenate([faces.pixels for _, faces in chunks]) == together.pixels).all()


def test_reconstruction_is_the_picture_of_the_mean(pipelines: Pipelines, vae: Family) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)

    posteriors = pipelines.encode(vae, pixels)

    assert posteriors.mu.shape == (3, vae.latent_size)
    assert posteriors.logvar is not None
    assert posteriors.logvar.shape == posteriors.mu.shape
    decoded = pipelines.decode(vae, posteriors.mu)
    assert (pipelines.reconstruct(vae, pixels) == decoded).all()


def test_autoencoder_has_no_variance(pipelines: Pipelines) -> None:
    autoencoder = find_family(pipelines.families, "tiny-ae")

    posteriors = pipelines.encode(autoencoder, np.zeros((1, 64, 64, 3), np.uint8))

    assert posteriors.logvar is None


@pytest.mark.parametrize("spherical", [False, True])
def test_path_begins_and_ends_at_its_ends(
    pipelines: Pipelines, vae: Family, spherical: bool
) -> None:
    ends = (pipelines.generate(vae, _draw(2))).latents

    path = pipelines.interpolate(vae, (ends[0], ends[1]), count=5, spherical=spherical)

    assert (path.latents[[0, -1]] == ends).all()
    assert (path.pixels == pipelines.decode(vae, path.latents)).all()


def test_timeout_that_has_passed_is_a_deadline_error(pipelines: Pipelines, vae: Family) -> None:
    with pytest.raises(DeadlineError):
        pipelines.generate(vae, _draw(3), context=CallContext(timeout_s=0))

    assert len((pipelines.generate(vae, _draw(3), context=CallContext(timeout_s=60))).pixels) == 3


def test_cancelled_call_draws_nothing(pipelines: Pipelines, vae: Family) -> None:
    context = CallContext()
    context.cancel()

    with pytest.raises(CallCancelledError):
        pipelines.generate(vae, _draw(3), context=context)


def test_new_version_of_a_family_takes_over_under_traffic_without_a_failed_call(
    tiny_repository: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(tiny_repository, repository)
    for config in repository.glob("*/config.pbtxt"):
        text = config.read_text().replace("num_versions: 1", "num_versions: 2")
        sha256 = re.search(r'"facegen.sha256.1"\s*value\s*{\s*string_value: "(\w+)"', text)
        assert sha256 is not None
        entry = f'{{ key: "facegen.sha256.2" value {{ string_value: "{sha256[1]}" }} }}'
        config.write_text(f"{text}\nparameters {entry}\n")
    taken_over = threading.Event()
    with OnnxEngine(repository, model_control="poll", poll_s=3600) as engine:
        pipelines = Pipelines(engine)

        def draw() -> str:
            family = find_family(pipelines.families, "tiny-vae")
            pipelines.generate(family, _draw(2), context=CallContext(timeout_s=60))
            return family.version

        def draw_on() -> list[str]:
            versions = [draw()]
            while not taken_over.is_set():
                versions.append(draw())
            return versions

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(draw_on) for _ in range(4)]
            try:
                for folder in repository.glob("*/1"):
                    shutil.copytree(folder, folder.with_name("2"))
                engine.poll()
            finally:
                taken_over.set()

        assert {call.result()[0] for call in calls} == {"1"}
        assert draw() == "2"
