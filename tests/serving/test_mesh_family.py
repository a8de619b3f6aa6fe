import logging
from dataclasses import replace

import numpy as np
import pytest

from facegen.serving.engine import ModelInfo, TensorSpec
from facegen.serving.errors import FamilyError
from facegen.serving.faces.family import group_families
from facegen.serving.faces.latent_family import find_family
from facegen.serving.meshes.family import default_mesh_family, group_mesh_families


def _tensor(name: str, *shape: int, dtype: type = np.float32) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


_VERTICES = _tensor("vertices", 30, 3)
_TENSORS = {
    "encoder": ((_VERTICES,), (_tensor("mu", 8), _tensor("logvar", 8))),
    "decoder": ((_tensor("latent", -1),), (_VERTICES,)),
    "prior": ((_tensor("noise", 8), _tensor("uniform", 1)), (_tensor("latent", 8),)),
    "topology": (
        (_tensor("row", 1, dtype=np.uint8),),
        (_tensor("faces", 40, 3, dtype=np.int32), _tensor("template", 30, 3)),
    ),
}


def _model(role: str, *, family: str = "m", version: str = "1", **parameters: str) -> ModelInfo:
    prior = f"-{parameters['prior']}" if role == "prior" and "prior" in parameters else ""
    said = {
        "family": family,
        "role": role,
        "kind": "mesh",
        "latent_size": "8",
        "mesh_size": "30x40",
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
        _model("topology", **changes),
    ]


def test_a_family_gathers_its_models_and_facts() -> None:
    (family,) = group_mesh_families(
        _family(dataset="ict", metrics='{"mean_error_mm": 0.5}', commit="abc")
    )

    assert (family.name, family.version, family.kind) == ("m", "1", "mesh")
    assert (family.vertex_count, family.face_count, family.latent_size) == (30, 40, 8)
    assert list(family.priors) == ["mixture", "normal"]
    assert family.graphs == (
        "m-encoder", "m-decoder", "m-prior-mixture", "m-prior-normal", "m-topology",
    )  # fmt: skip
    assert (family.dataset, family.commit) == ("ict", "abc")
    assert family.metrics == {"mean_error_mm": 0.5}


def test_families_of_meshes_and_of_pictures_are_apart() -> None:
    stranger = replace(_model("encoder"), parameters={})
    models = [stranger, *_family()]

    assert group_families(models) == ()
    assert [family.name for family in group_mesh_families(models)] == ["m"]


@pytest.mark.parametrize("missing", ["encoder", "decoder", "topology"])
def test_an_incomplete_family_is_passed_over_with_a_warning(
    missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    models = [model for model in _family() if model.name != f"m-{missing}"]

    with caplog.at_level(logging.WARNING):
        families = group_mesh_families(models)

    assert families == ()
    assert f"family=m version=1 missing={missing}" in caplog.text


def test_new_version_waits_for_the_priors_that_the_older_has() -> None:
    newer = [model for model in _family(version="2") if model.name != "m-prior-normal"]

    assert [it.version for it in group_mesh_families([*_family(), *newer])] == ["1"]
    complete = group_mesh_families([*_family(), *_family(version="2")])
    assert find_family(complete, "m").version == "2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_size": "0"}, 'latent_size" is "0"'),
        ({"mesh_size": ""}, r'no parameter "facegen\.mesh_size"'),
        ({"mesh_size": "30"}, 'mesh_size" is "30", not like "5000x9806"'),
        ({"mesh_size": "30x-1"}, "not like"),
        ({"mesh_size": "2x1"}, "so few"),
        ({"mesh_size": "31x40"}, r'no tensor "vertices" of float32 \[31, 3\]'),
        ({"mesh_size": "30x41"}, r'no tensor "faces" of int32 \[41, 3\]'),
        ({"metrics": "[1]"}, "no JSON object"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_family(
    changes: dict[str, str], message: str
) -> None:
    with pytest.raises(FamilyError, match=message) as caught:
        group_mesh_families(_family(**changes))

    assert str(caught.value).startswith('family "m": ')


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_model("encoder", mesh_size="29x40"), "contradict.*mesh_size.*m-encoder says 29x40"),
        (_model("encoder", kind="vae"), "contradict.*kind"),
        (replace(_model("topology"), max_batch_size=0), '"m-topology" has max_batch_size 0'),
        (replace(_model("topology"), outputs=(_tensor("faces", 40, 3),)), '"faces" of int32'),
        (replace(_model("decoder"), outputs=(_tensor("vertices", 90),)), 'no tensor "vertices"'),
    ],
    ids=["size", "kind", "batch", "dtype", "shape"],
)  # fmt: skip
def test_models_that_do_not_fit_are_refused(changed: ModelInfo, message: str) -> None:
    models = [model for model in _family() if model.name != changed.name]

    with pytest.raises(FamilyError, match=message):
        group_mesh_families([*models, changed])


def test_two_topologies_are_refused() -> None:
    second = replace(_model("topology"), name="m-other")

    with pytest.raises(FamilyError, match='m-topology, m-other all have the role "topology"'):
        group_mesh_families([*_family(), second])


def test_a_family_that_does_not_fit_together_can_be_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        families = group_mesh_families(
            [*_family(family="a"), *_family(mesh_size="9x9")], lenient=True
        )

    assert [family.name for family in families] == ["a"]
    assert 'error=family "m": ' in caplog.text


def test_the_first_by_name_is_the_default_family() -> None:
    families = group_mesh_families([*_family(family="b"), *_family(family="a")])

    assert default_mesh_family(families) == "a"
    assert default_mesh_family(()) == ""
