import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.errors import DeadlineError
from facegen.serving.faces.family import Family, find_family
from facegen.serving.onnx.engine import OnnxEngine
from facegen.serving.faces.pipelines import Draw, Pipelines


@pytest.fixture
async def pipelines(tiny_repository: Path) -> AsyncIterator[Pipelines]:
    async with OnnxEngine(tiny_repository) as engine:
        yield await Pipelines.over(engine)


@pytest.fixture
def vae(pipelines: Pipelines) -> Family:
    return find_family(pipelines.families, "tiny-vae")


def _draw(count: int, *, first_index: int = 0, seed: int = 7, temperature: float = 1.0) -> Draw:
    return Draw(seed, first_index, count, temperature, "normal")


async def test_generated_pictures_are_those_of_their_latents(
    pipelines: Pipelines, vae: Family
) -> None:
    faces = await pipelines.generate(vae, _draw(5))

    assert faces.latents.shape == (5, vae.latent_size)
    assert faces.pixels.shape == (5, 64, 64, 3)
    assert (await pipelines.decode(vae, faces.latents) == faces.pixels).all()


async def test_face_depends_on_seed_and_index_alone(pipelines: Pipelines, vae: Family) -> None:
    together = await pipelines.generate(vae, _draw(20))

    alone = [await pipelines.generate(vae, _draw(1, first_index=i)) for i in range(20)]
    other = await pipelines.generate(vae, _draw(20, seed=8))

    assert (np.concatenate([faces.pixels for faces in alone]) == together.pixels).all()
    assert (other.latents != together.latents).any(axis=1).all()


async def test_temperature_scales_the_noise(pipelines: Pipelines, vae: Family) -> None:
    warm = await pipelines.generate(vae, _draw(4))
    cool = await pipelines.generate(vae, _draw(4, temperature=0.5))
    still = await pipelines.generate(vae, _draw(4, temperature=0))

    assert cool.latents == pytest.approx(warm.latents / 2)
    assert not still.latents.any()


async def test_every_prior_draws_its_own_faces(pipelines: Pipelines, vae: Family) -> None:
    draws = [Draw(7, 0, 4, 1.0, prior) for prior in vae.priors]

    faces = [await pipelines.generate(vae, draw) for draw in draws]

    assert len(faces) == 2
    assert (faces[0].latents != faces[1].latents).any()


async def test_chunks_are_the_faces_of_one_call(pipelines: Pipelines, vae: Family) -> None:
    together = await pipelines.generate(vae, _draw(150, first_index=5))

    chunks = [chunk async for chunk in pipelines.generate_chunks(vae, _draw(150, first_index=5))]

    assert len(chunks) > 1
    assert [draw.first_index for draw, _ in chunks][:2] == [5, 5 + chunks[0][0].count]
    assert (np.concatenate([faces.pixels for _, faces in chunks]) == together.pixels).all()


async def test_leaving_a_stream_ends_its_work(pipelines: Pipelines, vae: Family) -> None:
    before = asyncio.all_tasks()

    async with aclosing(pipelines.generate_chunks(vae, _draw(2**40))) as chunks:
        async for _ in chunks:
            break

    assert asyncio.all_tasks() == before


async def test_reconstruction_is_the_picture_of_the_mean(pipelines: Pipelines, vae: Family) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)

    posteriors = await pipelines.encode(vae, pixels)

    assert posteriors.mu.shape == (3, vae.latent_size)
    assert posteriors.logvar is not None
    assert posteriors.logvar.shape == posteriors.mu.shape
    decoded = await pipelines.decode(vae, posteriors.mu)
    assert (await pipelines.reconstruct(vae, pixels) == decoded).all()


async def test_autoencoder_has_no_variance(pipelines: Pipelines) -> None:
    autoencoder = find_family(pipelines.families, "tiny-ae")

    posteriors = await pipelines.encode(autoencoder, np.zeros((1, 64, 64, 3), np.uint8))

    assert posteriors.logvar is None


@pytest.mark.parametrize("spherical", [False, True])
async def test_path_begins_and_ends_at_its_ends(
    pipelines: Pipelines, vae: Family, spherical: bool
) -> None:
    ends = (await pipelines.generate(vae, _draw(2))).latents

    path = await pipelines.interpolate(vae, (ends[0], ends[1]), count=5, spherical=spherical)

    assert (path.latents[[0, -1]] == ends).all()
    assert (path.pixels == await pipelines.decode(vae, path.latents)).all()


async def test_timeout_that_has_passed_is_a_deadline_error(
    pipelines: Pipelines, vae: Family
) -> None:
    with pytest.raises(DeadlineError):
        await pipelines.generate(vae, _draw(3), timeout_s=0.0)

    assert len((await pipelines.generate(vae, _draw(3), timeout_s=60)).pixels) == 3
