from pathlib import Path

import pytest

from facegen.training.config import config_to_toml, load_config, preset_names, read_toml
from facegen.training.errors import ConfigurationError


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_reads_and_has_a_description(name: str) -> None:
    config = load_config(name)

    assert config.description
    assert config.model.kind == ("vae" if "-vae" in name else "autoencoder")


def test_the_presets_are_there() -> None:
    celeba = ("celeba-ae", "celeba-ae-sharp", "celeba-vae", "celeba-vae-sharp")

    assert preset_names() == (*celeba, "fer-vae", "lfw-ae", "lfw-vae")


def test_overrides_change_nested_keys() -> None:
    config = load_config(
        "celeba-vae", ["model.latent_size=64", "data.root=/some where", "loss.reconstruction=fixed"]
    )

    assert config.model.latent_size == 64
    assert config.data.root == "/some where"
    assert config.loss.reconstruction == "fixed"


def test_unknown_key_is_named_with_near_matches() -> None:
    with pytest.raises(ConfigurationError, match=r'"model\.latent_sise".*near: model\.latent_size'):
        load_config("celeba-vae", ["model.latent_sise=64"])


def test_key_without_its_table_finds_the_table() -> None:
    with pytest.raises(ConfigurationError, match=r"near: .*optimizer\.learning_rate"):
        load_config("celeba-vae", ["learning_rate=1e-3"])


def test_unknown_key_in_a_file_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[optimizer]\nlearnin_rate = 1e-3\n", "utf-8")

    with pytest.raises(ConfigurationError, match=r'mine\.toml.*"optimizer\.learnin_rate"'):
        load_config(str(recipe))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("epochs", "is not key=value"),
        ("model=3", "is a table"),
        ("epochs=0", "epochs = 0"),
        ("batch_size=many", "batch_size = 'many'"),
        ("model.kind=gan", "model.kind = 'gan'"),
    ],
)
def test_bad_override_says_which_and_why(override: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config("celeba-vae", [override])

    assert problem in str(caught.value)


def test_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="celeba-ae, celeba-ae-sharp, celeba-vae"):
        load_config("celeba-gan")


def test_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("epochs == 3", "utf-8")

    with pytest.raises(ConfigurationError, match="not TOML"):
        load_config(str(tmp_path / "bad.toml"))


def test_resolved_recipe_reads_back_equal() -> None:
    config = load_config("fer-vae", ["prior.candidates=[2,4]", "seed=3"])

    assert read_toml(config_to_toml(config), source="config.toml") == config
