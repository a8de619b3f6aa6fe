import logging
from dataclasses import replace

import numpy as np
import pytest

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import FamilyError, ModelNotFoundError
from facegen.serving.faces.family import default_family, find_family, group_families


def _tensor(name: str, *shape: int, dtype: type = np.float32) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


_IMAGE = _tensor("image", 48, 64, 3, dtype=np.uint8)
_TENSORS = {
    "encoder": ((_IMAGE,), (_tensor("mu", 8), _tensor("logvar", 8))),
    "decoder": ((_tensor("latent", -1),), (_IMAGE,)),
    "prior": ((_tensor("noise", 8), _tensor("uniform", 1)), (_tensor("latent", 8),)),
    "directions": ((_tensor("latent", 8), _tensor("strength", 2)), (_tensor("edited", 8),)),
}


def _model(role: str, *, family: str = "f", version: str = "1", **parameters: str) -> ModelInfo:
    prior = f"-{parameters['prior']}" if role == "prior" and "prior" in parameters else ""
    said = {
        "family": family,
        "role": role,
        "kind": "vae",
        "latent_size": "8",
        "image_size": "48x64x3",
        **parameters,
    }
    return ModelInfo(
        name=f"{family}-{role}{prior}",
        version=version,
        inputs=_TENSORS[role][0],
        outputs=_TENSORS[role][1],
        max_batch_size=4,
        parameters={f"facegen.{key}": value for key, value in said.items() if value},
    )


def _family(**changes: str) -> list[ModelInfo]:
    return [
        _model("encoder", **changes),
        _model("decoder", **changes),
        _model("prior", prior="normal", **changes),
        _model("prior", prior="mixture", default_prior="true", **changes),
    ]


def test_a_family_gathers_its_models_and_facts() -> None:
    (family,) = group_families(
        _family(
            crop="0.8427",
            face_frame="[0.5, 0.65, 0.62]",
            dataset="CelebA",
            data_license="non-commercial",
            metrics='{"psnr_db": 20.5, "images": 7}',
            protocol="on held-out faces",
            commit="abc",
        )
    )

    assert (family.name, family.version, family.kind) == ("f", "1", "vae")
    assert (family.height_px, family.width_px, family.channel_count) == (48, 64, 3)
    assert family.latent_size == 8
    assert family.crop_fraction == pytest.approx(0.8427)
    assert family.face_frame == (0.5, 0.65, 0.62)
    assert list(family.priors.items()) == [
        ("mixture", "f-prior-mixture"),
        ("normal", "f-prior-normal"),
    ]
    assert family.default_prior == "mixture"
    assert family.graphs == ("f-encoder", "f-decoder", "f-prior-mixture", "f-prior-normal")
    assert (family.dataset, family.data_license) == ("CelebA", "non-commercial")
    assert family.metrics == {"psnr_db": 20.5, "images": 7.0}
    assert (family.protocol, family.commit) == ("on held-out faces", "abc")


def test_facts_that_are_not_told_have_their_defaults() -> None:
    (family,) = group_families(_family())

    assert family.crop_fraction == 1
    assert family.face_frame is None
    assert family.metrics == {}
    assert family.dataset == ""


def test_families_come_by_name_and_versions_by_number() -> None:
    models = [*_family(version="10"), *_family(version="9"), *_family(family="a")]

    families = group_families(models)

    assert [(family.name, family.version) for family in families] == [
        ("a", "1"),
        ("f", "9"),
        ("f", "10"),
    ]


def test_models_of_no_family_are_passed_over() -> None:
    stranger = replace(_model("encoder"), parameters={})

    assert group_families([stranger]) == ()


def test_an_incomplete_family_is_passed_over_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        families = group_families([*_family(family="a"), _model("encoder")])

    assert [family.name for family in families] == ["a"]
    assert "family=f version=1 missing=decoder,prior" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": ""}, 'has no parameter "facegen.kind"'),
        ({"latent_size": "many"}, 'latent_size" is "many"'),
        ({"latent_size": "0"}, 'latent_size" is "0"'),
        ({"image_size": "64x64"}, 'not like "64x64x3"'),
        ({"image_size": "64x64x2"}, "odd picture"),
        ({"crop": "1.5"}, 'crop" is "1.5"'),
        ({"crop": "nan"}, 'crop" is "nan"'),
        ({"face_frame": "[0.5, 0.6]"}, r"face_frame.* is \[0.5, 0.6\], no"),
        ({"face_frame": "[0.5, 1.6, 0.5]"}, "middle in the unit square"),
        ({"face_frame": "[0.5, 0.6, 0]"}, "middle in the unit square"),
        ({"face_frame": "wide"}, "middle in the unit square"),
        ({"metrics": "psnr"}, "no JSON object"),
        ({"metrics": "[1]"}, "no JSON object"),
        ({"metrics": '{"a": "b"}'}, "no JSON object"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_family(
    changes: dict[str, str], message: str
) -> None:
    with pytest.raises(FamilyError, match=message) as caught:
        group_families(_family(**changes))

    assert str(caught.value).startswith('family "f": ')


def test_models_that_contradict_each_other_are_refused() -> None:
    models = [*_family()[1:], _model("encoder", latent_size="9")]

    with pytest.raises(FamilyError, match=r"contradict.*latent_size.*f-encoder says 9"):
        group_families(models)


def test_a_model_of_a_family_without_a_role_is_refused() -> None:
    model = _model("encoder")
    model = replace(model, parameters={**model.parameters, "facegen.role": ""})

    with pytest.raises(FamilyError, match=r'"f-encoder" has no parameter "facegen\.role"'):
        group_families([model])


def test_two_decoders_are_refused() -> None:
    with pytest.raises(FamilyError, match='all have the role "decoder"'):
        group_families([*_family(), _model("decoder")])


@pytest.mark.parametrize("default", ["", "true"])
def test_several_priors_need_exactly_one_default(default: str) -> None:
    models = [
        *_family()[:2],
        _model("prior", prior="normal", default_prior=default),
        _model("prior", prior="mixture", default_prior=default),
    ]

    with pytest.raises(FamilyError, match=r"facegen\.default_prior"):
        group_families(models)


def test_a_single_prior_is_the_default() -> None:
    (family,) = group_families(_family()[:3])

    assert family.default_prior == "normal"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(_model("decoder"), max_batch_size=0), '"f-decoder" has max_batch_size 0'),
        (replace(_model("decoder"), outputs=(_tensor("image", 48, 64, 3),)), "no tensor.*uint8"),
        (replace(_model("decoder"), inputs=(_tensor("z", 8),)), 'no tensor "latent" of float32'),
        (replace(_model("decoder"), inputs=(_tensor("latent", 9),)), r'no tensor "latent".*\[8\]'),
    ],
    ids=["batch", "dtype", "name", "shape"],
)
def test_a_model_without_the_tensors_of_its_role_is_refused(
    changed: ModelInfo, message: str
) -> None:
    models = [model for model in _family() if model.name != changed.name]

    with pytest.raises(FamilyError, match=message):
        group_families([*models, changed])


def test_a_family_that_does_not_fit_together_can_be_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        families = group_families([*_family(family="a"), *_family(image_size="9x9")], lenient=True)

    assert [family.name for family in families] == ["a"]
    assert 'error=family "f": ' in caplog.text


def test_a_version_without_a_prior_of_the_one_before_is_still_loading(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        families = group_families([*_family(version="9"), *_family(version="10")[:3]])

    assert [family.version for family in families] == ["9"]
    assert "family=f version=10 missing=f-prior-mixture" in caplog.text


def test_the_first_vae_is_the_default_family() -> None:
    families = group_families(
        [*_family(family="a", kind="autoencoder"), *_family(family="c"), *_family(family="b")]
    )

    assert default_family(families) == "b"
    assert default_family(families[:1]) == "a"
    assert default_family(()) == ""


def test_the_newest_version_is_found_unless_one_is_named() -> None:
    families = group_families([*_family(version="10"), *_family(version="9")])

    assert find_family(families, "f").version == "10"
    assert find_family(families, "f", version="9").version == "9"
    with pytest.raises(ModelNotFoundError, match=r'"f" version "1".*ready: f 9, f 10'):
        find_family(families, "f", version="1")
    with pytest.raises(ModelNotFoundError, match='"g"'):
        find_family(families, "g")


def _directions(names: str = "Smiling,component-1", **parameters: str) -> ModelInfo:
    return _model("directions", directions=names, **parameters)


def test_directions_belong_to_their_family() -> None:
    models = [*_family(), _directions(direction_effects='{"Smiling": 0.8}')]

    (family,) = group_families(models)

    assert family.directions is not None
    assert family.directions.model == "f-directions"
    assert family.directions.names == ("Smiling", "component-1")
    assert family.directions.effects == {"Smiling": 0.8}
    assert family.graphs[-1] == "f-directions"


def test_family_may_have_no_directions() -> None:
    (family,) = group_families(_family())

    assert family.directions is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_directions(""), 'has no parameter "facegen.directions"'),
        (_directions("Smiling,,Young"), "empty name"),
        (_directions("Smiling,Smiling"), "names Smiling twice"),
        (_directions("Smiling"), r'no tensor "strength" of float32 \[1\]'),
        (_directions("a,b,c"), r'no tensor "strength" of float32 \[3\]'),
        (_directions(direction_effects="0.8"), "no JSON object of numbers"),
        (_directions(direction_effects='{"Smiling": "much"}'), "no JSON object of numbers"),
        (_directions(direction_effects='{"Young": 1}'), "Young is no direction"),
        (_directions(direction_effects='{"Smiling": NaN}'), "Smiling is no direction"),
        (_directions(latent_size="9"), "contradict each other"),
    ],
)
def test_directions_that_do_not_fit_are_refused(model: ModelInfo, message: str) -> None:
    with pytest.raises(FamilyError, match=message):
        group_families([*_family(), model])


def test_two_models_of_directions_are_refused() -> None:
    second = replace(_directions(), name="f-more")

    with pytest.raises(FamilyError, match='f-directions, f-more all have the role "directions"'):
        group_families([*_family(), _directions(), second])


def test_new_version_waits_for_the_directions_that_the_older_has() -> None:
    old, new = [*_family(), _directions()], _family(version="2")

    assert [family.version for family in group_families([*old, *new])] == ["1"]
    complete = group_families([*old, *new, _directions(version="2")])
    assert [family.version for family in complete] == ["1", "2"]
    assert all(family.directions for family in complete)
