import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from facegen.training.config import (
    config_to_toml,
    load_config,
    load_recipe,
    preset_names,
    read_toml,
)
from facegen.training.errors import ConfigurationError
from facegen.training.recipes import AlignerRecipe, ClassifierRecipe, ExpressionRecipe, TrainConfig

KINDS = {
    "celeba-ae": "autoencoder",
    "celeba-ae-sharp": "autoencoder",
    "celeba-vae": "vae",
    "celeba-vae-sharp": "vae",
    "coma": "mesh",
    "faces": "vae",
    "faces-128": "vae",
    "faces-sharp": "vae",
    "fer-ae": "autoencoder",
    "fer-ae-sharp": "autoencoder",
    "fer-aligner": "aligner",
    "fer-expressions": "expression",
    "fer-guide-a": "classifier",
    "fer-guide-b": "classifier",
    "fer-judge": "classifier",
    "fer-vae": "vae",
    "fer-vae-sharp": "vae",
    "ict-mesh": "mesh",
    "ict-mesh-sage": "mesh",
    "lfw-ae": "autoencoder",
    "lfw-ae-sharp": "autoencoder",
    "lfw-vae": "vae",
    "lfw-vae-sharp": "vae",
    "meshes": "mesh",
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_reads_and_has_a_description(name: str) -> None:
    config = load_recipe(name)

    assert config.description
    assert config.model.kind == KINDS[name]


def test_the_presets_are_there() -> None:
    assert preset_names() == tuple(sorted(KINDS))


def test_recipe_of_another_kind_is_no_autoencoders() -> None:
    with pytest.raises(ConfigurationError, match='fer-judge: is a recipe of kind "classifier"'):
        load_config("fer-judge")


def test_keys_of_another_kind_are_unknown() -> None:
    with pytest.raises(ConfigurationError, match=r'unknown key "model\.architecture"'):
        load_recipe("fer-expressions", ["model.architecture=plain"])
    assert load_recipe("fer-judge", ["model.architecture=plain"]).model.kind == "classifier"


def test_every_key_of_every_recipe_is_documented() -> None:
    def undocumented(model: type[BaseModel], prefix: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found += undocumented(field.annotation, f"{prefix}{name}.")
            source = inspect.getsource(model) if name in model.__annotations__ else None
            if source and not re.search(
                rf'    {name}: (?:(?!\n    \w).)*\n    """\S', source, re.DOTALL
            ):
                found.append(prefix + name)
        return found

    for recipe in (TrainConfig, ClassifierRecipe, AlignerRecipe, ExpressionRecipe):
        assert undocumented(recipe, f"{recipe.__name__}.") == []


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
    for preset in ("fer-vae", "fer-guide-b", "fer-expressions"):
        config = load_recipe(preset, ["seed=3"])

        assert read_toml(config_to_toml(config), source="config.toml") == config
