"""The repository that `tiny_repository` holds: what serving and Triton rely on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from facegen.export.config import parse_config
from facegen.export.onnx_export import refuse_random_operators
from facegen.export.runtime import run_rows
from facegen.training import Run, load_run

FAMILIES = {"vae": "tiny-vae", "autoencoder": "tiny-ae"}
ROLES = ("encoder", "decoder", "prior-mixture", "prior-normal", "directions")
GRAPHS = [f"{family}-{role}" for family in FAMILIES.values() for role in ROLES]


def open_graph(repository: Path, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = repository / name / "1" / "model.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def random_inputs(session: onnxruntime.InferenceSession, count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    inputs = {}
    for tensor in session.get_inputs():
        shape = (count, *tensor.shape[1:])
        if tensor.type == "tensor(uint8)":
            inputs[tensor.name] = random.integers(0, 256, shape, np.uint8)
        elif tensor.name == "uniform":
            inputs[tensor.name] = random.random(shape, np.float32)
        else:
            inputs[tensor.name] = random.standard_normal(shape, np.float32)
    return inputs


@pytest.fixture(scope="module", params=FAMILIES)
def run(request: pytest.FixtureRequest, tiny_runs: Mapping[str, Path]) -> Run:
    return load_run(tiny_runs[request.param])


def test_encoder_agrees_with_pytorch(run: Run, tiny_repository: Path) -> None:
    session = open_graph(tiny_repository, f"{FAMILIES[run.config.model.kind]}-encoder")
    images = np.ascontiguousarray(run.validation_images(6))

    outputs = run_rows(session, {"image": images})

    with torch.no_grad():
        expected = run.model.encoder(torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0)
    np.testing.assert_allclose(outputs["mu"], expected.mu, atol=1e-4)
    assert ("logvar" in outputs) == (run.config.model.kind == "vae")
    if expected.logvar is not None:
        np.testing.assert_allclose(outputs["logvar"], expected.logvar, atol=1e-4)


def test_decoder_agrees_with_pytorch_to_one_level(run: Run, tiny_repository: Path) -> None:
    session = open_graph(tiny_repository, f"{FAMILIES[run.config.model.kind]}-decoder")
    latents = np.random.default_rng(0).standard_normal((16, 8), np.float32)

    pixels = run_rows(session, {"latent": latents})["image"]

    with torch.no_grad():
        expected = run.model.decoder(torch.from_numpy(latents)).clamp(0, 1) * 255
    assert pixels.dtype == np.uint8
    assert pixels.shape == (16, 64, 64, 3)
    assert np.abs(pixels - expected.permute(0, 2, 3, 1).numpy()).max() <= 0.5 + 1e-3


def test_mixture_agrees_with_the_fitted_one(run: Run, tiny_repository: Path) -> None:
    session = open_graph(tiny_repository, f"{FAMILIES[run.config.model.kind]}-prior-mixture")
    inputs = random_inputs(session, 64)

    latents = run_rows(session, inputs)["latent"]

    expected = run.prior.sample(inputs["noise"], inputs["uniform"])
    np.testing.assert_allclose(latents, expected, atol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_row_has_the_same_bits_in_every_batch_size(name: str, tiny_repository: Path) -> None:
    session = open_graph(tiny_repository, name)
    inputs = random_inputs(session, 66)

    whole = run_rows(session, inputs)

    for size in (*range(1, 34), 64, 65):
        parts = run_rows(session, inputs, batch_size=size)
        for output, values in whole.items():
            assert values.tobytes() == parts[output].tobytes(), f"{output} in batches of {size}"


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_is_valid_and_tells_nothing_of_the_machine(name: str, tiny_repository: Path) -> None:
    path = tiny_repository / name / "1" / "model.onnx"
    model = onnx.load(path)

    onnx.checker.check_model(model, full_check=True)
    refuse_random_operators(model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"site-packages" not in path.read_bytes()
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("name", GRAPHS)
def test_config_describes_the_graph(name: str, tiny_repository: Path) -> None:
    config = parse_config((tiny_repository / name / "config.pbtxt").read_text())
    session = open_graph(tiny_repository, name)
    types = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)"}
    type_name = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number

    assert config.name == name
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 64
    assert config.HasField("dynamic_batching")
    assert config.version_policy.latest.num_versions == 1
    for declared, found in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [t.name for t in declared] == [t.name for t in found]
        assert [list(t.dims) for t in declared] == [t.shape[1:] for t in found]
        assert [types[type_name[t.data_type].name] for t in declared] == [t.type for t in found]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 64]
    for warmup in config.model_warmup:
        assert {t.name for t in config.input} == set(warmup.inputs)
        assert all(sample.zero_data for sample in warmup.inputs.values())


@pytest.mark.parametrize("name", GRAPHS)
def test_parameters_describe_the_family(name: str, tiny_repository: Path) -> None:
    config = parse_config((tiny_repository / name / "config.pbtxt").read_text())
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    family = next(f for f in FAMILIES.values() if name.startswith(f))
    role, _, prior = name.removeprefix(f"{family}-").partition("-")

    assert parameters["facegen.family"] == family
    assert FAMILIES[parameters["facegen.kind"]] == family
    assert parameters["facegen.role"] == role
    assert parameters.get("facegen.prior", "") == prior
    assert parameters.get("facegen.default_prior") == ("true" if prior == "mixture" else None)
    assert parameters["facegen.latent_size"] == "8"
    assert parameters["facegen.image_size"] == "64x64x3"
    assert float(parameters["facegen.crop"]) == 1
    assert parameters["facegen.dataset"] == "folder"
    assert parameters["facegen.data_license"]
    assert json.loads(parameters["facegen.metrics"]) == {}
    graph = (tiny_repository / name / "1" / "model.onnx").read_bytes()
    assert parameters["facegen.sha256.1"] == hashlib.sha256(graph).hexdigest()


@pytest.mark.parametrize("family", FAMILIES.values())
def test_card_and_picture_stand_beside_the_models(family: str, tiny_repository: Path) -> None:
    card = (tiny_repository / f"{family}.md").read_text()

    with Image.open(tiny_repository / f"{family}.png") as picture:
        assert picture.width > 2 * 8 * 64
        assert np.unique(np.asarray(picture)).size > 10
    assert card.startswith(f"# {family}\n")
    assert f"({family}.png)" in card
    assert "Not evaluated" in card
    assert all(f"| {family}-{role} |" in card for role in ROLES)
    for section in ("Data", "Training", "Quality", "Graphs", "Limits"):
        assert f"\n## {section}\n" in card


def test_nothing_is_left_beside_the_models(tiny_repository: Path) -> None:
    names = {path.name for path in tiny_repository.iterdir()} - {".built"}

    assert names == {*GRAPHS, *(f"{f}{s}" for f in FAMILIES.values() for s in (".md", ".png"))}
