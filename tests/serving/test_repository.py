from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facegen.serving.errors import ModelNotFoundError, RepositoryError
from facegen.serving.onnx.repository import Repository

WriteModel = Callable[..., Path]


def test_a_model_is_read_as_its_config_says(write_model: WriteModel) -> None:
    path = write_model(
        extra="dynamic_batching { max_queue_delay_microseconds: 1500 }"
        "instance_group { count: 2 } instance_group { kind: KIND_CPU }"
        'parameters { key: "facegen.family" value { string_value: "f" } }'
    )

    (model,) = Repository(path).read("double")

    assert (model.info.name, model.info.version) == ("double", "1")
    assert model.info.max_batch_size == 16
    (tensor,) = model.info.inputs
    assert (tensor.name, tensor.dtype, tensor.shape) == ("x", np.dtype(np.float32), (4,))
    assert model.info.outputs[0].name == "y"
    assert model.info.parameters["facegen.family"] == "f"
    assert model.instance_count == 3
    assert model.max_queue_delay_s == pytest.approx(0.0015)
    (sample,) = model.warmup
    assert (sample.rows, sample.count, sample.random_inputs) == (2, 1, frozenset())
    assert model.read_graph() == (path / "double" / "1" / "model.onnx").read_bytes()


def test_files_and_hidden_folders_beside_the_models_are_passed_over(
    write_model: WriteModel,
) -> None:
    path = write_model("b")
    write_model("a")
    (path / "a.md").write_text("a card")
    (path / ".cache").mkdir()

    assert Repository(path).names() == ("a", "b")


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", ["10"]),
        ("version_policy { latest { num_versions: 2 } }", ["9", "10"]),
        ("version_policy { latest { num_versions: 9 } }", ["1", "9", "10"]),
        ("version_policy { all {} }", ["1", "9", "10"]),
        ("version_policy { specific { versions: [9, 1] } }", ["1", "9"]),
    ],
)
def test_the_version_policy_chooses_the_versions_by_number(
    write_model: WriteModel, policy: str, served: list[str]
) -> None:
    path = write_model(versions=("9", "10", "1"), extra=policy)
    (path / "double" / "notes").mkdir()
    (path / "double" / "02").mkdir()

    models = Repository(path).read("double")

    assert [model.info.version for model in models] == served


@pytest.mark.parametrize("name", ["..", "../double", "double/1", "/etc", "", ".", "double\0", "x"])
def test_a_name_cannot_leave_the_repository(write_model: WriteModel, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="ready: double"):
        Repository(write_model()).read(name)


def test_a_folder_that_does_not_exist_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"nowhere: does not exist; .*facegen export"):
        Repository(tmp_path / "nowhere")


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RepositoryError, match="is no folder"):
        Repository(tmp_path / "file")


def test_an_empty_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="holds no models"):
        Repository(tmp_path).names()


_IO = (
    'input { name: "x" data_type: TYPE_FP32 dims: 4 }'
    'output { name: "y" data_type: TYPE_FP32 dims: 4 }'
)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("max_batch_size: 1 {", "no ModelConfig in protobuf's text format"),
        ("no_such_field: 1", "no_such_field"),
        (f'name: "other" backend: "onnxruntime" max_batch_size: 1 {_IO}', 'name is "other"'),
        (f'backend: "tensorrt" max_batch_size: 1 {_IO}', 'backend is "tensorrt"'),
        (f"max_batch_size: 1 {_IO}", 'backend is ""'),
        (f'backend: "onnxruntime" {_IO}', "max_batch_size is 0"),
        ('backend: "onnxruntime" max_batch_size: 1', "no input or no output"),
        (
            'backend: "onnxruntime" max_batch_size: 1 default_model_filename: "../m.onnx"' + _IO,
            "default_model_filename",
        ),
        (
            f'backend: "onnxruntime" max_batch_size: 1 {_IO.replace("FP32", "STRING")}',
            "TYPE_STRING",
        ),
        (f'backend: "onnxruntime" max_batch_size: 1 {_IO.replace("4", "0")}', "dims"),
        (
            f'backend: "onnxruntime" max_batch_size: 1 {_IO} model_warmup {{ name: "w" }}',
            "give every input",
        ),
        (
            f'backend: "onnxruntime" max_batch_size: 1 {_IO} model_warmup {{ name: "w" '
            'inputs { key: "x" value { input_data_file: "/etc/passwd" } } }',
            "reads a file",
        ),
        (
            f'backend: "onnxruntime" max_batch_size: 1 {_IO} '
            "version_policy { specific { versions: 3 } }",
            r"names \[3\], present are \[1\]",
        ),
    ],
)
def test_a_config_that_cannot_be_served_is_refused_by_path_and_reason(
    write_model: WriteModel, config: str, message: str
) -> None:
    path = write_model(config=config)

    with pytest.raises(RepositoryError, match=message) as caught:
        Repository(path).read("double")

    assert caught.value.path == path / "double" / "config.pbtxt"


def test_a_model_without_config_is_refused(write_model: WriteModel) -> None:
    path = write_model()
    (path / "double" / "config.pbtxt").unlink()

    with pytest.raises(RepositoryError, match=r"config\.pbtxt: does not exist"):
        Repository(path).read("double")


def test_a_model_without_versions_is_refused(write_model: WriteModel) -> None:
    with pytest.raises(RepositoryError, match="has no version folder"):
        Repository(write_model(versions=())).read("double")


def test_a_version_without_graph_is_refused(write_model: WriteModel) -> None:
    path = write_model()
    (path / "double" / "1" / "model.onnx").unlink()

    with pytest.raises(RepositoryError, match=r"1/model\.onnx: does not exist"):
        Repository(path).read("double")


def test_a_graph_that_is_not_the_exported_one_is_refused(write_model: WriteModel) -> None:
    path = write_model()
    graph = path / "double" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    (model,) = Repository(path).read("double")

    with pytest.raises(RepositoryError, match=r"its sha256 is [0-9a-f]{64}, config\.pbtxt says"):
        model.read_graph()
