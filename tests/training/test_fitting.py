from pathlib import Path

import numpy as np
import pytest

from facegen.training import Run, load_config, load_run, train_run
from facegen.training.data import Labels, load_labels
from facegen.training.directions import Directions
from facegen.training.errors import ConfigurationError
from facegen.training.fitting import Fitted, check_labels, fit_label_priors
from facegen.training.latents import encode_pictures
from facegen.training.prior import MixturePrior
from facegen.training.recipes import PriorConfig
from facegen.training.run import RunPaths

SETTINGS = (
    "model.image_size=16",
    "model.widths=[4,6,8]",
    "model.latent_size=4",
    "batch_size=8",
    "epochs=1",
    "picture_count=4",
    "prior.components=2",
    "optimizer.warmup_steps=2",
)


def gaussian(size: int, *, mean: float = 0) -> MixturePrior:
    means = np.full((1, size), mean, np.float32)
    return MixturePrior(np.ones(1, np.float32), means, np.eye(size, dtype=np.float32)[None])


def labels_of(*columns: list[int]) -> Labels:
    values = np.array(columns, np.bool_).T
    names = tuple("ABC"[: len(columns)])
    return Labels("drawn", names, values, np.ones(len(values), np.bool_))


@pytest.fixture(scope="module")
def run(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = load_config(
        "celeba-vae",
        [f"data.root='{celeba}'", *SETTINGS, "prior.labels=['Smiling', '-Smiling']"],
    )
    folder = tmp_path_factory.mktemp("runs") / "labelled"
    return train_run(config, folder, device="cpu", threads=1)


def test_training_ends_with_priors_of_labels_and_directions(run: Run) -> None:
    again = load_run(run.paths.folder)

    assert list(run.priors) == ["mixture", "not-smiling", "smiling"]
    assert again.directions is not None
    # Nobody of the data is Male: nothing tells the two apart.
    assert again.directions.names == (
        "Smiling", "component-1", "component-2", "component-3", "component-4",
    )  # fmt: skip
    assert again.directions.vectors.shape == (5, 4)
    assert again.effects == {}
    assert not list(run.paths.folder.rglob("*.tmp"))


def test_a_labels_prior_is_that_of_its_pictures(run: Run) -> None:
    faces = run.faces()
    smiling = load_labels(faces)["train"].having("Smiling")
    latents = encode_pictures(run.model, np.asarray(faces.pixels["train"])[smiling], flip=True)

    prior = run.priors["smiling"]

    # Draws from the posteriors against their means: alike up to the noise of 32 draws.
    weighted = prior.weights @ prior.means
    np.testing.assert_allclose(weighted, latents.mean(0), atol=3 / np.sqrt(32))
    assert len(prior.weights) == 1  # 32 latents are too few for two components of 4 values


def test_label_that_the_data_set_lacks_is_refused_before_training(
    celeba: Path, tmp_path: Path
) -> None:
    config = load_config(
        "celeba-vae", [f"data.root='{celeba}'", *SETTINGS, "prior.labels=['smiling']"]
    )

    with pytest.raises(ConfigurationError, match=r'"smiling" is no label .*near: Smiling'):
        train_run(config, tmp_path / "run", device="cpu", threads=1)

    assert not (tmp_path / "run").exists()


def test_label_of_too_few_pictures_is_refused_with_their_number() -> None:
    with pytest.raises(ConfigurationError, match='"A": 3 training pictures have it, 10 are needed'):
        check_labels(labels_of([1] * 3 + [0] * 20), PriorConfig(labels=("A",)))


def test_labels_of_an_expression_model_are_refused() -> None:
    from facegen.training import load_recipe

    with pytest.raises(ConfigurationError, match=r"prior\.labels are for autoencoders"):
        load_recipe("fer-expressions", ["prior.labels=['happiness']"])


def test_label_priors_know_their_pictures_among_mirrored_ones() -> None:
    random = np.random.default_rng(0)
    labels = labels_of([1, 0] * 400, [0, 1] * 400)
    latents = random.standard_normal((800, 3)).astype(np.float32) * 0.1
    latents[labels.having("A")] += 5

    priors = fit_label_priors(
        np.concatenate([latents, latents]), labels, PriorConfig(labels=("A", "-A")), seed=0
    )

    means = {name: prior.weights @ prior.means for name, prior in priors.items()}
    np.testing.assert_allclose(means["a"], 5, atol=0.05)
    np.testing.assert_allclose(means["not-a"], 0, atol=0.05)


@pytest.mark.parametrize(("candidates", "count"), [((), 8), ((1, 2, 3), 2)])
def test_label_priors_take_components_by_their_pictures_or_by_the_criterion(
    candidates: tuple[int, ...], count: int
) -> None:
    random = np.random.default_rng(1)
    latents = random.standard_normal((400, 3)).astype(np.float32)
    latents[::4] += 30
    config = PriorConfig(components=8, candidates=candidates, labels=("A",))

    prior = fit_label_priors(latents, labels_of([1] * 200 + [0] * 200), config, seed=0)["a"]

    assert len(prior.weights) == count


def test_fitting_again_replaces_what_was_there_and_forgets_its_effects(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    directions = Directions(("component-1",), np.ones((1, 2), np.float32))
    Fitted(gaussian(2), {"smiling": gaussian(2), "bald": gaussian(2)}, directions).save(paths)
    paths.effects.write_text("{}")

    Fitted(gaussian(2, mean=1), {"bald": gaussian(2, mean=2)}, directions).save(paths)

    assert [path.name for path in paths.label_priors.iterdir()] == ["bald.npz"]
    assert MixturePrior.load(paths.label_priors / "bald.npz").means.tolist() == [[2, 2]]
    assert MixturePrior.load(paths.prior).means.tolist() == [[1, 1]]
    assert not paths.effects.exists()
