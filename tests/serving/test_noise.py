import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegen.serving.errors import InputError
from facegen.serving.faces.noise import latent_noise

_LAST = 2**64 - 1


def test_noise_is_the_documented_function_of_seed_and_index() -> None:
    seed, index = _LAST, 2**63 + 5
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))

    noise, uniform = latent_noise(seed, index, count=1, latent_size=128)

    np.testing.assert_array_equal(noise[0], generator.standard_normal(128, dtype=np.float32))
    np.testing.assert_array_equal(uniform[0], generator.random(1, dtype=np.float32))


def test_noise_never_changes_from_release_to_release() -> None:
    noise, uniform = latent_noise(7, 0, count=16, latent_size=128)

    digest = hashlib.sha256(noise.tobytes() + uniform.tobytes()).hexdigest()
    assert digest == "b390d09fd83a99b2cc012aa4272dacf8e9d6fa5ff8beb99e1a37ba16a818b20d"


@given(
    seed=st.integers(0, _LAST),
    first=st.integers(0, _LAST - 64),
    cut=st.integers(0, 20),
    latent_size=st.integers(1, 9),
)
def test_any_range_of_indices_can_be_drawn_alone(
    seed: int, first: int, cut: int, latent_size: int
) -> None:
    whole = latent_noise(seed, first, count=20, latent_size=latent_size)
    head = latent_noise(seed, first, count=cut, latent_size=latent_size)
    tail = latent_noise(seed, first + cut, count=20 - cut, latent_size=latent_size)

    for drawn, one, other in zip(whole, head, tail, strict=True):
        np.testing.assert_array_equal(drawn, np.concatenate([one, other]))


def test_noise_has_the_shapes_and_ranges_promised() -> None:
    noise, uniform = latent_noise(0, 0, count=2000, latent_size=8)

    assert noise.shape == (2000, 8)
    assert uniform.shape == (2000, 1)
    assert noise.dtype == uniform.dtype == np.float32
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1


def test_the_last_index_can_be_drawn_and_not_the_one_after_it() -> None:
    noise, _ = latent_noise(0, _LAST, count=1, latent_size=2)

    assert noise.shape == (1, 2)
    with pytest.raises(InputError, match="ask for at most 1"):
        latent_noise(0, _LAST, count=2, latent_size=2)


@pytest.mark.parametrize(
    ("seed", "index", "field"),
    [(-1, 0, "seed"), (2**64, 0, "seed"), (0, -1, "first_index"), (0, 2**64, "first_index")],
)
def test_what_is_no_uint64_is_refused_by_name(seed: int, index: int, field: str) -> None:
    with pytest.raises(InputError) as caught:
        latent_noise(seed, index, count=1, latent_size=2)

    assert caught.value.field == field
