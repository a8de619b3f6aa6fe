import dataclasses
import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from facegen.export.config import BatchingOptions, FamilyFacts, GraphRole, parse_config
from facegen.export.errors import InvalidGraphError, RepositoryConflictError
from facegen.export.prior_graphs import mixture_graph, normal_graph
from facegen.export.repository import StagedModel, publish

ROLE = GraphRole("prior", "normal")
NAME = "faces-prior-normal"


def facts(commit: str = "c0ffee") -> FamilyFacts:
    return FamilyFacts(
        family="faces",
        kind="vae",
        latent_size=4,
        image_size=(64, 64, 3),
        crop=150 / 178,
        dataset="celeba",
        data_license="Research.",
        metrics={"psnr_db": 20.0},
        protocol="",
        commit=commit,
        face_frame=(0.5, 0.65432, 0.62),
    )


def put(repository: Path, *, version: int = 1, commit: str = "c0ffee", graph: str = "one") -> None:
    publish(
        repository,
        [StagedModel(ROLE, normal_graph(4, name=graph))],
        facts(commit),
        version=version,
        batching=BatchingOptions(),
        files={"faces.md": commit.encode()},
    )


def parameters(repository: Path) -> dict[str, str]:
    config = parse_config((repository / NAME / "config.pbtxt").read_text())
    return {key: value.string_value for key, value in config.parameters.items()}


def test_crop_and_frame_are_in_decimals(tmp_path: Path) -> None:
    put(tmp_path)

    assert parameters(tmp_path)["facegen.crop"] == "0.8427"
    assert parameters(tmp_path)["facegen.face_frame"] == "[0.5, 0.6543, 0.62]"


def test_older_version_keeps_what_the_newest_says(tmp_path: Path) -> None:
    put(tmp_path, version=2, commit="newest")
    put(tmp_path, version=1, commit="oldest", graph="other")

    said = parameters(tmp_path)

    assert said["facegen.commit"] == "newest"
    assert {"facegen.sha256.1", "facegen.sha256.2"} <= said.keys()
    assert said["facegen.sha256.1"] != said["facegen.sha256.2"]


def test_replaced_version_has_one_hash_of_the_new_graph(tmp_path: Path) -> None:
    put(tmp_path)
    before = parameters(tmp_path)
    put(tmp_path, graph="other", commit="later")

    after = parameters(tmp_path)

    assert after["facegen.sha256.1"] != before["facegen.sha256.1"]
    assert after["facegen.commit"] == "later"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_version_of_another_shape_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path)
    before = (tmp_path / NAME / "config.pbtxt").read_bytes()

    with pytest.raises(RepositoryConflictError, match=r"version 1 with other shapes.*--family"):
        publish(
            tmp_path,
            [StagedModel(ROLE, normal_graph(5, name="wider"))],
            facts(),
            version=2,
            batching=BatchingOptions(),
            files={},
        )

    assert (tmp_path / NAME / "config.pbtxt").read_bytes() == before
    assert not (tmp_path / NAME / "2").exists()


def test_versions_stand_beside_each_other(tmp_path: Path) -> None:
    put(tmp_path, version=1)
    first = (tmp_path / NAME / "1" / "model.onnx").read_bytes()
    put(tmp_path, version=2, commit="newest", graph="other")

    said = parameters(tmp_path)

    assert (tmp_path / NAME / "1" / "model.onnx").read_bytes() == first
    assert said["facegen.commit"] == "newest"
    assert said["facegen.sha256.1"] == hashlib.sha256(first).hexdigest()
    assert said["facegen.sha256.2"] != said["facegen.sha256.1"]


def test_failure_while_staging_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    put(tmp_path)
    before = (tmp_path / NAME / "config.pbtxt").read_bytes()
    broken = mixture_graph(
        np.ones(1, np.float32),
        np.ones((1, 4), np.float32),
        scale_trils=np.ones((1, 4, 4), np.float32),
        name="broken",
    )
    del broken.graph.output[0].type.tensor_type.shape.dim[1]

    with pytest.raises(InvalidGraphError, match="expected uint8, int32 or float32 of fixed shape"):
        publish(
            tmp_path,
            [StagedModel(ROLE, normal_graph(4, name="new")), StagedModel(ROLE, broken)],
            facts(),
            version=1,
            batching=BatchingOptions(),
            files={},
        )

    assert (tmp_path / NAME / "config.pbtxt").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "faces.md"}


def test_reader_never_meets_a_missing_or_mixed_model(tmp_path: Path) -> None:
    put(tmp_path)
    stop = threading.Event()
    problems: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                # One look at the folder: what it holds belongs together.
                folder = (tmp_path / NAME).stat().st_ino
                text = (tmp_path / NAME / "config.pbtxt").read_text()
                parse_config(text)
                (tmp_path / NAME / "1" / "model.onnx").read_bytes()
            except FileNotFoundError as error:
                if (tmp_path / NAME).stat().st_ino == folder:
                    problems.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(20):
        put(tmp_path, graph=f"graph-{index}")
    stop.set()
    reader.join()

    assert problems == []


def put_family(repository: Path, *priors: str, family: str = "faces", version: int = 1) -> None:
    publish(
        repository,
        [StagedModel(GraphRole("prior", name), normal_graph(4, name="graph")) for name in priors],
        dataclasses.replace(facts(), family=family),
        version=version,
        batching=BatchingOptions(),
        files={},
    )


def test_what_a_version_has_no_more_is_taken_out(tmp_path: Path) -> None:
    put_family(tmp_path, "normal", "smiling", "bald")
    put_family(tmp_path, "bald", version=2)
    put_family(tmp_path, "smiling", family="faces-prior")

    put_family(tmp_path, "normal")

    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/")) == [
        "faces-prior-bald/2",
        "faces-prior-normal/1",
        "faces-prior-prior-smiling/1",
    ]


def test_folders_that_are_nobodys_models_stay(tmp_path: Path) -> None:
    put_family(tmp_path, "normal")
    for name, text in (("faces-mine", "not a config"), ("faces-theirs", 'name: "faces-theirs"')):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(text)

    put_family(tmp_path, "normal")

    assert (tmp_path / "faces-mine" / "1").is_dir()
    assert (tmp_path / "faces-theirs" / "1").is_dir()
