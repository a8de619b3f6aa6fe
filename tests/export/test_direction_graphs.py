from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from facegen.export.checks import check_batch_independence, check_structure
from facegen.export.direction_graphs import product_graph, row_graph
from facegen.export.runtime import open_session, run_rows
from facegen.training.directions import Directions

Build = Callable[..., onnx.ModelProto]


def directions(count: int, latent_size: int) -> Directions:
    random = np.random.default_rng(0)
    names = tuple(f"component-{number}" for number in range(count))
    return Directions(names, random.standard_normal((count, latent_size), np.float32))


def rows(count: int, moves: Directions) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(1)
    direction_count, latent_size = moves.vectors.shape
    return {
        "latent": random.standard_normal((count, latent_size), np.float32),
        "strength": random.standard_normal((count, direction_count), np.float32),
    }


@pytest.mark.parametrize("build", [product_graph, row_graph])
@pytest.mark.parametrize("count", [1, 50])
def test_graph_moves_latents_as_the_directions_do(build: Build, count: int) -> None:
    moves = directions(count, 12)
    inputs = rows(9, moves)

    model = build(moves.vectors, name="directions")
    check_structure(model)
    edited = run_rows(open_session(model), inputs)["edited"]

    expected = moves.edit(inputs["latent"], inputs["strength"])
    np.testing.assert_allclose(edited, expected, atol=1e-5)


@pytest.mark.parametrize("build", [product_graph, row_graph])
def test_strength_nothing_leaves_every_bit_of_a_latent(build: Build) -> None:
    moves = directions(5, 16)
    inputs = rows(3, moves) | {"strength": np.zeros((3, 5), np.float32)}

    edited = run_rows(open_session(build(moves.vectors, name="directions")), inputs)["edited"]

    assert edited.tobytes() == inputs["latent"].tobytes()


def test_row_by_row_graph_does_not_depend_on_the_batch() -> None:
    moves = directions(50, 128)

    check_batch_independence(
        "directions",
        open_session(row_graph(moves.vectors, name="directions")),
        rows(70, moves),
        batch_sizes=range(1, 66),
    )
