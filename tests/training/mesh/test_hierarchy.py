import numpy as np
import pytest
import trimesh

from facegen.training.mesh.hierarchy import Hierarchy, adjacency, build_hierarchy


@pytest.fixture(scope="module")
def ball() -> trimesh.Trimesh:
    sphere: trimesh.Trimesh = trimesh.creation.icosphere(subdivisions=3)
    return sphere


@pytest.fixture(scope="module")
def hierarchy(ball: trimesh.Trimesh) -> Hierarchy:
    return build_hierarchy(ball.vertices, ball.faces.astype(np.int32), (4, 4))


def test_each_level_has_a_quarter_rounded_up(hierarchy: Hierarchy) -> None:
    assert hierarchy.vertex_counts == (642, 161, 41)


def test_neighbours_are_those_of_the_edges(ball: trimesh.Trimesh) -> None:
    graph = adjacency(ball.faces, len(ball.vertices)).toarray()

    expected = np.zeros_like(graph)
    expected[tuple(ball.edges_unique.T)] = 1
    np.testing.assert_array_equal(graph, expected + expected.T)


def test_kept_vertices_come_back_where_they_were(
    ball: trimesh.Trimesh, hierarchy: Hierarchy
) -> None:
    kept = hierarchy.kept[0]

    back = hierarchy.up(0) @ ball.vertices[kept]

    np.testing.assert_allclose(back[kept], ball.vertices[kept], atol=1e-6)


def test_others_come_back_onto_the_coarse_surface(
    ball: trimesh.Trimesh, hierarchy: Hierarchy
) -> None:
    coarse = trimesh.Trimesh(ball.vertices[hierarchy.kept[0]], hierarchy.faces[1], process=False)

    back = hierarchy.up(0) @ coarse.vertices

    _, distances, _ = trimesh.proximity.closest_point(coarse, back)  # type: ignore[no-untyped-call]  # trimesh's
    assert distances.max() < 1e-6
    assert np.linalg.norm(back - ball.vertices, axis=1).max() < 0.1


def test_rows_of_the_way_up_sum_to_one_and_use_three_vertices_at_most(
    hierarchy: Hierarchy,
) -> None:
    for level in range(2):
        up = hierarchy.up(level)

        np.testing.assert_allclose(up.sum(1), 1, atol=1e-6)
        assert (np.diff(up.indptr) <= 3).all()
        assert up.data.min() > 0


def test_its_state_makes_it_again(hierarchy: Hierarchy) -> None:
    state = hierarchy.state()

    again = Hierarchy.of_state(state)

    assert again.vertex_counts == hierarchy.vertex_counts
    for name, array in again.state().items():
        np.testing.assert_array_equal(array, state[name])
