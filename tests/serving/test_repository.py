import os
from collections.abc import Callable
from pathlib import Path

import pytest

from facegen.serving.errors import ModelNotFoundError, RepositoryError
from facegen.serving.onnx.repository import Repository

WriteModel = Callable[..., Path]


def test_a_version_is_found_with_its_graph_and_hash(write_model: WriteModel) -> None:
    path = write_model()

    (files,) = Repository(path).read("double")

    assert files.version == "1"
    assert files.graph == path / "double" / "1" / "model.onnx"
    assert files.read_graph() == files.graph.read_bytes()
    assert len(files.sha256) == 64


def test_files_and_hidden_folders_beside_the_models_are_passed_over(
    write_model: WriteModel,
) -> None:
    path = write_model("b")
    write_model("a")
    (path / "a.md").write_text("a card")
    (path / ".cache").mkdir()
    (path / os.fsdecode(b"\xff")).mkdir()  # no UTF-8, which no message could tell

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

    versions = Repository(path).read("double")

    assert [files.version for files in versions] == served


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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("max_batch_size: 1 {", "no ModelConfig in protobuf's text format"),
        ('name: "other"', 'name is "other"'),
        ('backend: "tensorrt"', 'backend is "tensorrt"'),
        ('platform: "tensorrt_plan"', 'backend is "tensorrt_plan"'),
        ('platform: "ensemble" ensemble_scheduling {}', 'backend is "ensemble"'),
        ("max_batch_size: -1", "max_batch_size is -1"),
        ('backend: "onnxruntime" default_model_filename: "../m"', "default_model_filename"),
        ('backend: "onnxruntime" default_model_filename: ".."', "default_model_filename"),
        ("sequence_batching {}", "sequence_batching, which does not run here"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "batch_input"),
        ('model_operations { op_library_filename: "a.so" }', "model_operations"),
        ('input { name: "x" allow_ragged_batch: true }', "allow_ragged_batch"),
        ("version_policy { specific { versions: 3 } }", r"names \[3\], present are \[1\]"),
        ("version_policy { specific {} }", "names no version"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused_by_path_and_reason(
    write_model: WriteModel, config: str, message: str
) -> None:
    path = write_model(config=config)

    with pytest.raises(RepositoryError, match=message) as caught:
        Repository(path).read("double")

    assert caught.value.path == path / "double" / "config.pbtxt"


def test_unknown_fields_are_passed_over_with_a_warning(
    write_model: WriteModel, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_model(extra="field_of_a_later_triton: 1")

    (files,) = Repository(path).read("double")

    assert files.config.max_batch_size == 16
    assert "field_of_a_later_triton" in caplog.text


def test_a_folder_with_neither_backend_nor_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half" / "1").mkdir(parents=True)

    with pytest.raises(RepositoryError, match=r"names no backend, and no version has a model"):
        Repository(tmp_path).read("half")


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
    (files,) = Repository(path).read("double")

    with pytest.raises(RepositoryError, match=r"its sha256 is [0-9a-f]{64}, config\.pbtxt says"):
        files.read_graph()


@pytest.mark.parametrize("linked", ["", "1", "1/model.onnx", "config.pbtxt", "1/weights.bin"])
def test_a_link_cannot_leave_the_repository(
    write_model: WriteModel, tmp_path: Path, linked: str
) -> None:
    path = write_model()
    inside = path / "double" / linked
    outside = tmp_path.with_name(f"{tmp_path.name}-outside")
    if inside.exists():
        inside.rename(outside)
    else:
        outside.touch()
    inside.symlink_to(outside)

    with pytest.raises(RepositoryError, match="is a link out of the repository"):
        Repository(path).read("double")


def test_a_link_within_the_repository_is_followed(write_model: WriteModel) -> None:
    path = write_model()
    (path / ".store").mkdir()
    (path / "double").rename(path / ".store" / "double")
    (path / "double").symlink_to(path / ".store" / "double")

    (files,) = Repository(path).read("double")

    assert files.read_graph()


def test_links_in_a_circle_are_refused(write_model: WriteModel) -> None:
    path = write_model()
    (path / "double" / "1" / "again").symlink_to(path / "double" / "1")

    with pytest.raises(RepositoryError, match="lies too deep"):
        Repository(path).read("double")


def test_the_fingerprint_changes_with_files_and_with_what_concerns_the_version(
    write_model: WriteModel,
) -> None:
    path = write_model(versions=("1", "2"))
    config = path / "double" / "config.pbtxt"
    text = config.read_text()

    def fingerprint() -> object:
        return {f.version: f.fingerprint for f in Repository(path).read("double")}["2"]

    first = fingerprint()
    config.write_text(
        text
        + 'parameters { key: "facegen.sha256.1" value { string_value: "other" } }'
        + "version_policy { all {} }"
    )
    same = fingerprint()
    config.write_text(text + 'parameters { key: "k" value { string_value: "v" } }')
    other_config = fingerprint()
    config.write_text(text)
    (path / "double" / "2" / "weights.bin").touch()
    other_files = fingerprint()

    assert first == same
    assert len({repr(first), repr(other_config), repr(other_files)}) == 3


def test_labels_are_read_from_beside_the_config(write_model: WriteModel) -> None:
    path = write_model()
    config = path / "double" / "config.pbtxt"
    config.write_text(
        config.read_text().replace(
            'output { name: "y"', 'output { name: "y" label_filename: "labels.txt"'
        )
    )
    (path / "double" / "labels.txt").write_text("a\nb\nc\nd\n")

    (files,) = Repository(path).read("double")

    assert files.labels == {"y": ("a", "b", "c", "d")}
