"""The repository that `tiny_expression_repository` holds: what serving and Triton rely on."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from facegen.export.config import parse_config
from facegen.export.conversion import convert_repository
from facegen.export.onnx_export import refuse_random_operators
from facegen.export.runtime import Rows, run_rows
from facegen.training import ExpressionRun, load_aligner_run, load_expression_run
from facegen.training.data.alignment import TEMPLATE
from facegen.training.expression.data import load_aligned_faces
from facegen.training.expression.model import EXPRESSIONS

FAMILY = "tiny-expressions"
ROLES = (
    "encoder",
    *(f"decoder-{expression}" for expression in EXPRESSIONS),
    "aligner",
    "prior-mixture",
    "prior-normal",
)

_SHAPES = {
    "encoder": (
        {"image": ("TYPE_UINT8", [48, 48, 1])},
        {
            "mu": ("TYPE_FP32", [8]),
            "logvar": ("TYPE_FP32", [8]),
            "features": ("TYPE_FP32", [6, 12, 12]),
        },
    ),
    "decoder": (
        {"latent": ("TYPE_FP32", [8]), "features": ("TYPE_FP32", [6, 12, 12])},
        {
            "image": ("TYPE_UINT8", [48, 48, 1]),
            "mask": ("TYPE_FP32", [24, 24, 1]),
            "flow": ("TYPE_FP32", [24, 24, 2]),
        },
    ),
    "aligner": (
        {"image": ("TYPE_UINT8", [64, 64, 1])},
        {"points": ("TYPE_FP32", [5, 2])},
    ),
    "prior": (
        {"noise": ("TYPE_FP32", [8]), "uniform": ("TYPE_FP32", [1])},
        {"latent": ("TYPE_FP32", [8])},
    ),
}


def open_graph(repository: Path, role: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = repository / f"{FAMILY}-{role}" / "1" / "model.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def parameters(repository: Path, role: str) -> dict[str, str]:
    config = parse_config((repository / f"{FAMILY}-{role}" / "config.pbtxt").read_text())
    return {key: value.string_value for key, value in config.parameters.items()}


def random_inputs(session: onnxruntime.InferenceSession, count: int) -> Rows:
    random = np.random.default_rng(1)
    return {
        tensor.name: random.integers(0, 256, (count, *tensor.shape[1:]), np.uint8)
        if tensor.type == "tensor(uint8)"
        else random.random((count, *tensor.shape[1:]), np.float32)
        for tensor in session.get_inputs()
    }


@pytest.fixture(scope="module")
def run(tiny_expression_run: Path) -> ExpressionRun:
    return load_expression_run(tiny_expression_run)


@pytest.fixture(scope="module")
def faces(run: ExpressionRun) -> np.ndarray:
    aligned = load_aligned_faces(run.config.data, run.config.model.expressions)
    return aligned.validation.images[:12]


def test_encoder_agrees_with_pytorch(
    run: ExpressionRun, faces: np.ndarray, tiny_expression_repository: Path
) -> None:
    outputs = run_rows(open_graph(tiny_expression_repository, "encoder"), {"image": faces})

    with torch.no_grad():
        expected = run.model.encoder(torch.from_numpy(faces).permute(0, 3, 1, 2) / 255.0)
    np.testing.assert_allclose(outputs["mu"], expected.posterior.mu, atol=1e-4)
    np.testing.assert_allclose(outputs["logvar"], expected.posterior.logvar, atol=1e-4)
    np.testing.assert_allclose(outputs["features"], expected.features, atol=1e-4)


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("plain", [False, True], ids=["edit", "without features"])
def test_decoder_agrees_with_pytorch(
    run: ExpressionRun,
    faces: np.ndarray,
    tiny_expression_repository: Path,
    *,
    expression: str,
    plain: bool,
) -> None:
    with torch.no_grad():
        encoding = run.model.encoder(torch.from_numpy(faces).permute(0, 3, 1, 2) / 255.0)
        latent, features = encoding.posterior.mu, encoding.features * (not plain)
        expected = run.model.decoders[expression](latent, features)

    session = open_graph(tiny_expression_repository, f"decoder-{expression}")
    outputs = run_rows(session, {"latent": latent.numpy(), "features": features.numpy()})

    pixels = expected.content.clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    assert outputs["image"].dtype == np.uint8
    assert np.abs(outputs["image"] - pixels).max() <= 0.5 + 1e-2
    np.testing.assert_allclose(outputs["mask"], expected.mask.permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(outputs["flow"], expected.flow.permute(0, 2, 3, 1), atol=1e-6)


def test_decoders_edit_differently(tiny_expression_repository: Path) -> None:
    sessions = [open_graph(tiny_expression_repository, f"decoder-{name}") for name in EXPRESSIONS]
    rows = random_inputs(sessions[0], 1)

    edits = [run_rows(session, rows) for session in sessions]

    assert len({edit["flow"].tobytes() for edit in edits}) == len(EXPRESSIONS)


def test_aligner_agrees_with_pytorch(
    tiny_expression_repository: Path, tiny_aligner_run: Path
) -> None:
    session = open_graph(tiny_expression_repository, "aligner")
    rows = random_inputs(session, 9)

    points = run_rows(session, rows)["points"]

    aligner = load_aligner_run(tiny_aligner_run).model
    with torch.no_grad():
        expected = aligner(torch.from_numpy(rows["image"]).permute(0, 3, 1, 2) / 255.0)
    np.testing.assert_allclose(points, expected, atol=1e-5)


@pytest.mark.parametrize("role", ROLES)
def test_every_row_has_the_same_bits_in_every_batch_size(
    role: str, tiny_expression_repository: Path
) -> None:
    session = open_graph(tiny_expression_repository, role)
    inputs = random_inputs(session, 34)

    whole = run_rows(session, inputs)

    for size in (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33):
        parts = run_rows(session, inputs, batch_size=size)
        for output, values in whole.items():
            assert values.tobytes() == parts[output].tobytes(), f"{output} in batches of {size}"


@pytest.mark.parametrize("role", ROLES)
def test_graph_is_valid_and_tells_nothing_of_the_machine(
    role: str, tiny_expression_repository: Path
) -> None:
    path = tiny_expression_repository / f"{FAMILY}-{role}" / "1" / "model.onnx"
    model = onnx.load(path)

    onnx.checker.check_model(model, full_check=True)
    refuse_random_operators(model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"site-packages" not in path.read_bytes()
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("role", ROLES)
def test_config_describes_the_graph(role: str, tiny_expression_repository: Path) -> None:
    folder = tiny_expression_repository / f"{FAMILY}-{role}"
    config = parse_config((folder / "config.pbtxt").read_text())
    names = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number

    said = [
        {tensor.name: (names[tensor.data_type].name, list(tensor.dims)) for tensor in tensors}
        for tensors in (config.input, config.output)
    ]

    assert (config.name, config.max_batch_size) == (f"{FAMILY}-{role}", 64)
    assert tuple(said) == _SHAPES[role.split("-")[0]]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 64]
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == {tensor.name for tensor in config.input}


@pytest.mark.parametrize("role", ROLES)
def test_parameters_describe_the_family(role: str, tiny_expression_repository: Path) -> None:
    said = parameters(tiny_expression_repository, role)
    kind, _, which = role.partition("-")

    assert said["facegen.family"] == FAMILY
    assert said["facegen.kind"] == "expression"
    assert said["facegen.role"] == kind
    assert said.get("facegen.expression") == (which if kind == "decoder" else None)
    assert said.get("facegen.prior") == (which if kind == "prior" else None)
    assert "facegen.experimental" not in said
    assert json.loads(said["facegen.template"]) == TEMPLATE.tolist()
    assert said["facegen.latent_size"] == "8"
    assert said["facegen.image_size"] == "48x48x1"
    assert said["facegen.dataset"] == "fer"
    assert said["facegen.data_license"]
    graph = tiny_expression_repository / f"{FAMILY}-{role}" / "1" / "model.onnx"
    assert said["facegen.sha256.1"] == hashlib.sha256(graph.read_bytes()).hexdigest()


def test_card_and_picture_stand_beside_the_models(
    tiny_expression_repository: Path, tiny_expression_run: Path
) -> None:
    card = (tiny_expression_repository / f"{FAMILY}.md").read_text()

    with Image.open(tiny_expression_repository / f"{FAMILY}.png") as picture:
        assert (picture.width, picture.height) == (16 * 50 - 2, 5 * (16 + 48 + 2) - 2)
        rows = np.asarray(picture)[:, :, 0]
        assert np.unique(rows).size > 10
    assert card.startswith(f"# {FAMILY}\n")
    assert f"({FAMILY}.png)" in card
    assert "facegen transfer photo.jpg --expression happiness" in card
    assert "Not evaluated. Measure the run with `facegen evaluate expression run`" in card
    assert "| sadness | 12 | 4 |" in card
    assert all(f"| {FAMILY}-{role} |" in card for role in ROLES)
    assert str(tiny_expression_run.parent) not in card
    for section in ("Data", "Training", "Quality", "Graphs", "Limits"):
        assert f"\n## {section}\n" in card


def test_nothing_is_left_beside_the_models(tiny_expression_repository: Path) -> None:
    names = {path.name for path in tiny_expression_repository.iterdir()} - {".built"}

    assert names == {*(f"{FAMILY}-{role}" for role in ROLES), f"{FAMILY}.md", f"{FAMILY}.png"}


def test_python_backend_gets_every_graph(tiny_expression_repository: Path, tmp_path: Path) -> None:
    convert_repository(tiny_expression_repository, tmp_path, backend="python")

    for role in ROLES:
        folder = tmp_path / f"{FAMILY}-{role}"
        assert parse_config((folder / "config.pbtxt").read_text()).backend == "python"
        assert (folder / "1" / "model.py").is_file()
