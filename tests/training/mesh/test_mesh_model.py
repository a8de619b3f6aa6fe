import numpy as np
import pytest
import torch
import trimesh
from pydantic import ValidationError

from facegen.training.mesh.hierarchy import Hierarchy, build_hierarchy
from facegen.training.mesh.latents import decode_meshes, encode_meshes
from facegen.training.mesh.model import MeshAutoencoder, MeshConfig, VertexScale

_BALL = trimesh.creation.icosphere(subdivisions=2, radius=90.0)
_TEMPLATE = _BALL.vertices.astype(np.float32)


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return build_hierarchy(_TEMPLATE, _BALL.faces.astype(np.int32), (4, 4))


def _model(hierarchy: Hierarchy, **changes: object) -> MeshAutoencoder:
    torch.manual_seed(0)
    config = MeshConfig.model_validate({"filters": (4, 8), "factors": (4, 4), **changes})
    return MeshAutoencoder(config, hierarchy, VertexScale(_TEMPLATE, 2.0)).eval()


def _meshes(count: int) -> torch.Tensor:
    noise = torch.randn(count, *_TEMPLATE.shape, generator=torch.Generator().manual_seed(1))
    return torch.from_numpy(_TEMPLATE) + 2 * noise


@pytest.mark.parametrize(
    ("convolution", "own_biases", "count"),
    [
        # COMA's published network: https://github.com/sw-gong/coma counts as many.
        ("chebyshev", False, 30_059),
        # and 16, 16, 16 and 32 biases of a vertex instead of those of all.
        ("chebyshev", True, 30_059 + 32 * 78 + 16 * 313 + 16 * 1255 + 16 * 5022),
        ("sage", False, 17_387),
    ],
)
def test_at_comas_setting_it_has_as_many_parameters(
    convolution: str, own_biases: bool, count: int
) -> None:
    sizes = (5023, 1256, 314, 79, 20)
    random = np.random.default_rng(0)
    levels = Hierarchy(
        tuple(random.integers(0, size, (10, 3), dtype=np.int32) for size in sizes),
        tuple(np.arange(size) for size in sizes[1:]),
        tuple(np.zeros((size, 3), np.int64) for size in sizes[:-1]),
        tuple(np.full((size, 3), 1 / 3, np.float32) for size in sizes[:-1]),
    )
    config = MeshConfig(convolution=convolution, vertex_biases=own_biases)

    model = MeshAutoencoder(config, levels, VertexScale(np.zeros((5023, 3), np.float32), 1.0))

    assert model.parameter_count == count


@pytest.mark.parametrize("convolution", ["chebyshev", "sage"])
def test_a_row_does_not_depend_on_the_others(hierarchy: Hierarchy, convolution: str) -> None:
    model, meshes = _model(hierarchy, convolution=convolution), _meshes(5)

    together = model(meshes).reconstruction

    for row, mesh in enumerate(meshes):
        torch.testing.assert_close(model(mesh[None]).reconstruction[0], together[row])


def test_a_vae_decodes_draws_and_an_autoencoder_its_latents(hierarchy: Hierarchy) -> None:
    noise, meshes = torch.randn(3, 8), _meshes(3)
    plain, variational = _model(hierarchy), _model(hierarchy, variational=True)

    assert plain(meshes).posterior.logvar is None
    assert torch.equal(plain(meshes, noise).reconstruction, plain(meshes).reconstruction)
    posterior = variational(meshes).posterior
    drawn = posterior.mu + noise * torch.exp(posterior.logvar / 2)
    torch.testing.assert_close(
        variational(meshes, noise).reconstruction, variational.decoder(drawn)
    )


@pytest.mark.parametrize("convolution", ["chebyshev", "sage"])
def test_its_state_alone_makes_it_again(hierarchy: Hierarchy, convolution: str) -> None:
    model, meshes = _model(hierarchy, convolution=convolution), _meshes(2)

    again = MeshAutoencoder.of_state(model.config, model.state_dict()).eval()

    assert torch.equal(again(meshes).reconstruction, model(meshes).reconstruction)
    np.testing.assert_array_equal(again.hierarchy.faces[0], _BALL.faces)
    np.testing.assert_array_equal(again.template, _TEMPLATE)


def test_a_state_of_another_configuration_is_refused(hierarchy: Hierarchy) -> None:
    state = _model(hierarchy).state_dict()

    with pytest.raises(RuntimeError, match="levels"):
        MeshAutoencoder.of_state(MeshConfig(filters=(4, 8, 8), factors=(4, 4, 4)), state)
    with pytest.raises(RuntimeError, match="levels"):
        MeshAutoencoder.of_state(_model(hierarchy).config, {"encoder.mean": torch.zeros(3, 3)})


def test_as_many_filters_as_factors_are_needed() -> None:
    with pytest.raises(ValidationError, match="3 filters and 4 factors"):
        MeshConfig(filters=(16, 16, 32))


def test_the_scale_is_the_mean_and_one_deviation() -> None:
    meshes = _meshes(50).numpy()

    scale = VertexScale.of(meshes)

    np.testing.assert_allclose(scale.mean, meshes.mean(0), atol=1e-4)
    assert scale.deviation == pytest.approx((meshes - scale.mean).std(), rel=1e-4)
    assert VertexScale.of(np.repeat(meshes[:1], 2, axis=0)).deviation == 1.0


def test_latents_and_meshes_come_in_batches(hierarchy: Hierarchy) -> None:
    model, meshes = _model(hierarchy), _meshes(70)

    latents = encode_meshes(model, meshes.numpy())

    torch.testing.assert_close(torch.from_numpy(latents), model.encoder(meshes).mu)
    expected = model(meshes).reconstruction.detach().numpy()
    np.testing.assert_allclose(decode_meshes(model, latents), expected, atol=1e-4)


def test_drawn_latents_depend_on_the_seed_alone(hierarchy: Hierarchy) -> None:
    model, meshes = _model(hierarchy, variational=True), _meshes(40).numpy()

    drawn = encode_meshes(model, meshes, seed=3)

    np.testing.assert_array_equal(drawn, encode_meshes(model, meshes, seed=3))
    assert np.abs(drawn - encode_meshes(model, meshes, seed=4)).min() > 0
    assert len(np.unique(drawn[:, 0] - encode_meshes(model, meshes)[:, 0])) == 40


def test_the_hierarchy_is_not_changed_by_use(hierarchy: Hierarchy) -> None:
    before = {name: array.copy() for name, array in hierarchy.state().items()}

    _model(hierarchy)(_meshes(2))

    for name, array in hierarchy.state().items():
        np.testing.assert_array_equal(array, before[name])
