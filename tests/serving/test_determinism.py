"""The same bits whatever the batch, through graphs that were trained and exported."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.engine import Array, Engine, Tensors
from facegen.serving.faces.family import find_family, group_families
from facegen.serving.faces.noise import latent_noise
from facegen.serving.onnx.engine import OnnxEngine

_COUNT = 40


def _check_rows_alone(engine: Engine, model: str, inputs: Tensors, output: str) -> Array:
    """Compare all rows at once with one by one and threes at the same time; give the answer."""
    whole = engine.infer(model, inputs)[output]
    with ThreadPoolExecutor(8) as pool:
        for size in (1, 3):
            parts = [
                {name: x[at : at + size] for name, x in inputs.items()}
                for at in range(0, _COUNT, size)
            ]
            answers = list(pool.map(partial(engine.infer, model), parts))
            joined = np.concatenate([answer[output] for answer in answers])
            np.testing.assert_array_equal(joined, whole, err_msg=f"{model} by {size} rows")
    return whole


@pytest.mark.parametrize("name", ["tiny-vae", "tiny-ae"])
def test_every_graph_of_a_family_gives_a_row_the_same_bits_in_any_batch(
    tiny_repository: Path, name: str
) -> None:
    with OnnxEngine(tiny_repository, threads=2, max_batch_rows=8) as engine:
        family = find_family(group_families(engine.models()), name)
        noise, uniform = latent_noise(7, 0, count=_COUNT, latent_size=family.latent_size)

        for prior in family.priors.values():
            latents = _check_rows_alone(
                engine, prior, {"noise": noise, "uniform": uniform}, "latent"
            )
            images = _check_rows_alone(engine, family.decoder, {"latent": latents}, "image")
            _check_rows_alone(engine, family.encoder, {"image": images}, "mu")
