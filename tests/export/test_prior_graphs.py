import numpy as np
import pytest

from facegen.export.checks import check_batch_independence, check_structure
from facegen.export.prior_graphs import mixture_graph, normal_graph
from facegen.export.runtime import open_session, run_rows
from facegen.training import MixturePrior


def mixture(component_count: int, latent_size: int = 5) -> MixturePrior:
    random = np.random.default_rng(0)
    weights = random.random(component_count, np.float32) + np.float32(0.1)
    means = random.standard_normal((component_count, latent_size), np.float32)
    shape = (component_count, latent_size, latent_size)
    scale_trils = np.tril(random.standard_normal(shape, np.float32))
    return MixturePrior(weights / weights.sum(), means, scale_trils)


@pytest.mark.parametrize("component_count", [1, 2, 10])
def test_mixture_graph_is_the_mixture(component_count: int) -> None:
    prior = mixture(component_count)
    random = np.random.default_rng(1)
    noise = random.standard_normal((200, 5), np.float32)
    uniform = random.random((200, 1), np.float32)

    model = mixture_graph(prior.weights, prior.means, scale_trils=prior.scale_trils, name="mixture")
    check_structure(model)
    latents = run_rows(open_session(model), {"noise": noise, "uniform": uniform})["latent"]

    np.testing.assert_allclose(latents, prior.sample(noise, uniform), atol=1e-5)


def test_uniform_chooses_components_by_cumulative_weight() -> None:
    means = np.array([[10.0], [20.0], [30.0]], np.float32)
    model = mixture_graph(
        np.array([0.25, 0.5, 0.25], np.float32),
        means,
        scale_trils=np.zeros((3, 1, 1), np.float32),
        name="mixture",
    )
    last = np.nextafter(np.float32(1), np.float32(0))
    uniform = np.array([[0], [0.2499], [0.25], [0.7499], [0.75], [last]], np.float32)

    latents = run_rows(
        open_session(model), {"noise": np.zeros((6, 1), np.float32), "uniform": uniform}
    )["latent"]

    assert latents[:, 0].tolist() == [10, 10, 20, 20, 30, 30]


def test_weights_that_miss_one_by_rounding_still_choose_a_component() -> None:
    model = mixture_graph(
        np.array([0.3, 0.3], np.float32),
        np.ones((2, 1), np.float32),
        scale_trils=np.zeros((2, 1, 1), np.float32),
        name="mixture",
    )
    rows = {"noise": np.zeros((1, 1), np.float32), "uniform": np.array([[0.9]], np.float32)}

    assert run_rows(open_session(model), rows)["latent"].tolist() == [[1.0]]


@pytest.mark.parametrize("latent_size", [5, 128])
def test_mixture_rows_do_not_depend_on_their_batch(latent_size: int) -> None:
    prior = mixture(10, latent_size)
    random = np.random.default_rng(2)
    rows = {
        "noise": random.standard_normal((70, latent_size), np.float32),
        "uniform": random.random((70, 1), np.float32),
    }
    model = mixture_graph(prior.weights, prior.means, scale_trils=prior.scale_trils, name="mixture")

    check_batch_independence("mixture", open_session(model), rows, batch_sizes=range(1, 66))


def test_normal_graph_is_the_noise_itself() -> None:
    model = normal_graph(4, name="normal")
    noise = np.random.default_rng(3).standard_normal((7, 4), np.float32)

    check_structure(model)
    rows = {"noise": noise, "uniform": np.zeros((7, 1), np.float32)}
    latents = run_rows(open_session(model), rows)["latent"]

    assert latents.tobytes() == noise.tobytes()
