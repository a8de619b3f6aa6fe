"""Sparse matrices on meshes cut into dense tiles."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, random_array

from facegen.export.mesh_tiles import LARGEST_SUM, Layout, Tile, cut_tiles, lay_out
from facegen.training.mesh.hierarchy import adjacency
from tests.export.conftest import Sheet


def multiply(groups: tuple[tuple[Tile, ...], ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the graph computes: by places, (W, N) to (P N, N)."""
    parts = [sum(tile.values @ x[tile.columns] for tile in tiles) for tiles in groups]
    product: NDArray[np.float64] = np.concatenate(parts).reshape(-1, x.shape[1])
    return product


@pytest.mark.parametrize("size", [8, 32])
def test_every_vertex_has_one_place_in_a_patch_of_at_most_the_size(sheet: Sheet, size: int) -> None:
    count = len(sheet.vertices)

    layout = lay_out(adjacency(sheet.faces, count), size)

    taken = layout.vertices[layout.vertices >= 0]
    assert layout.vertices.shape[1] <= size
    assert len(layout.vertices) == -(-count // size)
    assert sorted(taken.tolist()) == list(range(count))
    np.testing.assert_array_equal(layout.vertices.ravel()[layout.places], np.arange(count))


def test_patches_are_compact(sheet: Sheet) -> None:
    graph = adjacency(sheet.faces, len(sheet.vertices))

    layout = lay_out(graph, 32)

    ((tile,),) = cut_tiles(graph, layout, layout)
    assert tile.columns.shape[1] < 75  # a square of 32 and its border: 32 + 4 * 5.7 + 4 = 59


def test_same_mesh_gives_the_same_patches(sheet: Sheet) -> None:
    graph = adjacency(sheet.faces, len(sheet.vertices))

    np.testing.assert_array_equal(lay_out(graph, 16).places, lay_out(graph, 16).places)


def test_small_mesh_is_one_patch_in_its_order() -> None:
    layout = lay_out(csr_matrix((LARGEST_SUM, LARGEST_SUM)), 8)

    assert layout.natural
    assert layout.vertices.shape == (1, LARGEST_SUM)


def test_vertices_without_neighbours_and_separate_pieces_have_places(sheet: Sheet) -> None:
    count = len(sheet.vertices)
    twice = np.concatenate([sheet.faces, sheet.faces + count])

    layout = lay_out(adjacency(twice, 2 * count + 9), 16)

    taken = layout.vertices[layout.vertices >= 0]
    assert sorted(taken.tolist()) == list(range(2 * count + 9))


@pytest.mark.parametrize("density", [0.0, 0.01, 0.9])
def test_tiles_multiply_like_the_matrix(sheet: Sheet, density: float) -> None:
    rows = lay_out(adjacency(sheet.faces, len(sheet.vertices)), 16)
    columns = Layout.of([np.array([4, 1, 3]), np.arange(5, 200), np.array([0, 2])])
    random = np.random.default_rng(0)
    matrix = csr_matrix(
        random_array((len(rows.places), len(columns.places)), density=density, rng=random)
    )
    x = random.standard_normal((len(columns.places), 7))

    tiles = cut_tiles(matrix, rows, columns)
    product = multiply(tiles, columns.spread(x))

    assert all(tile.columns.shape[1] <= LARGEST_SUM for group in tiles for tile in group)
    np.testing.assert_allclose(product[rows.places], matrix @ x, atol=1e-5)


def test_patches_that_need_few_columns_are_not_filled_up_to_those_that_need_many() -> None:
    rows = Layout.of([np.arange(start, start + 4) for start in range(0, 400, 4)])
    near = csr_matrix((np.ones(400), (np.arange(400), np.arange(400))))
    far = csr_matrix((np.ones(400), (np.repeat([0, 399], 200), np.arange(400))), (400, 400))

    groups = cut_tiles(csr_matrix(near + far), rows, rows)

    assert sum(len(tiles[0].columns) for tiles in groups) == 100
    assert len(groups) > 1
    assert max(len(tiles) for tiles in groups) == 2
    assert min(tiles[0].columns.shape[1] for tiles in groups) < 104


def test_values_are_spread_to_places_and_nothing_to_the_others() -> None:
    layout = Layout.of([np.array([2, 0]), np.array([1])])

    spread = layout.spread(np.array([10.0, 11.0, 12.0]))

    assert spread.tolist() == [12.0, 10.0, 11.0, 0.0]
