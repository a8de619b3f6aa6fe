"""`facegen mesh`, run against a real server."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from facegen.client import Client
from tests.serving.mesh_graphs import linear_meshes

Run = Callable[..., Any]

_MESHES = linear_meshes()


@pytest.fixture
def mesh(facegen: Run, mesh_server: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `facegen mesh` against a server of meshes, in a fresh folder."""
    monkeypatch.setenv("FACEGEN_SERVER", mesh_server)
    return lambda *arguments: facegen("mesh", *arguments)


@pytest.fixture
def face(tmp_path: Path, mesh_server: str) -> Path:
    with Client(mesh_server) as client:
        drawn = client.generate_meshes(1, seed=1, mime_type="model/ply").meshes[0]
    drawn.mesh.save(tmp_path / "face.ply")
    return tmp_path / "face.ply"


def _read(path: Path) -> Any:
    kind = path.suffix[1:]
    return trimesh.load(io.BytesIO(path.read_bytes()), file_type=kind, process=False, force="mesh")


@pytest.mark.parametrize("kind", ["ply", "obj", "glb"])
def test_generate_writes_files_that_others_read(mesh: Run, tmp_path: Path, kind: str) -> None:
    done = mesh("generate", "-n", "3", "--seed", "7", "--first-index", "98", "--format", kind)

    assert done.code == 0, done.stderr
    assert "3 meshes in meshes/ · hand-mesh 1, prior mixture, seed 7" in done.stdout
    files = sorted((tmp_path / "meshes").iterdir())
    assert [file.name for file in files] == [f"{index:08}.{kind}" for index in range(98, 101)]
    assert np.array_equal(_read(files[0]).faces, _MESHES.faces)


def test_generate_gives_json_to_machines(mesh: Run, tmp_path: Path) -> None:
    done = mesh("generate", "--format", "raw", "--family", "hand-mesh", "--out", "a/b", "--json")

    result = json.loads(done.stdout)
    assert result["family"] == "hand-mesh"
    assert result["files"] == [f"a/b/{index:08}.f32" for index in range(4)]
    assert {(tmp_path / file).stat().st_size for file in result["files"]} == {30 * 12}
    assert done.stderr == ""


def test_reconstruct_tells_the_error_of_each_mesh(mesh: Run, face: Path, tmp_path: Path) -> None:
    vertices = _MESHES.some(1)[0]
    (tmp_path / "noisy.f32").write_bytes(vertices.tobytes())

    done = mesh("reconstruct", "face.ply", "noisy.f32", "--out", "out", "--format", "obj")

    assert done.code == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("face.ply: mean 0.000 mm, largest 0.000 mm · hand-mesh 1")
    made = _MESHES.decode(_MESHES.encode(vertices[None]))[0]
    mean = np.linalg.norm(made - vertices, axis=1).mean()
    assert second.startswith(f"noisy.f32: mean {mean:.3f} mm, largest ")
    read = _read(tmp_path / "out" / "noisy-reconstruction.obj")
    assert np.abs(read.vertices - made).max() < 1e-3


def test_mesh_that_cannot_be_used_is_reported_and_the_others_go_on(
    mesh: Run, face: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.obj").write_text("v 1 2\n", encoding="utf-8")

    done = mesh("reconstruct", "broken.obj", "missing.ply", "face.ply", "--json")

    assert done.code == 1
    result = json.loads(done.stdout)
    assert list(result["meshes"]) == ["face.ply"]
    assert result["meshes"]["face.ply"]["max_error_mm"] < 1e-3
    assert "is a broken OBJ: has line 1" in result["errors"]["broken.obj"]
    assert "No such file" in result["errors"]["missing.ply"]
    assert "broken.obj: " in done.stderr


def test_latents_go_through_a_file_and_back(mesh: Run, face: Path, tmp_path: Path) -> None:
    assert (
        mesh("encode", "face.ply", "--out", "latents.json").stdout == "1 latents in latents.json\n"
    )
    done = mesh("decode", "latents.json", "--out", "decoded")

    assert done.stdout == "1 meshes in decoded/ · hand-mesh 1\n"
    decoded = _read(tmp_path / "decoded" / "0000.ply")
    assert np.abs(decoded.vertices - _read(face).vertices).max() < 1e-3


def test_encode_prints_json(mesh: Run, face: Path) -> None:
    result = json.loads(mesh("encode", "face.ply").stdout)

    (latent,) = result["latents"]
    assert (latent["file"], latent["family"], len(latent["values"])) == ("face.ply", "hand-mesh", 8)
    assert result["errors"] == {}


def test_broken_latents_are_told(mesh: Run, tmp_path: Path) -> None:
    (tmp_path / "latents.json").write_text('{"latents": [{"values": [1]}]}', encoding="utf-8")

    done = mesh("decode", "latents.json")

    assert done.code == 1
    assert "which `facegen mesh encode` writes (KeyError: 'family')" in done.stderr
    assert "No such file" in mesh("decode", "missing.json").stderr


@pytest.mark.parametrize("ends", [["face.ply", "face.ply"], ["--seeds", "1,1"]])
def test_interpolate_goes_between_meshes_or_seeds(
    mesh: Run, face: Path, tmp_path: Path, ends: list[str]
) -> None:
    done = mesh("interpolate", *ends, "-n", "3", "--linear")

    assert done.code == 0, done.stderr
    assert "3 meshes in path/ · hand-mesh 1, linear" in done.stdout
    files = sorted((tmp_path / "path").iterdir())
    assert [file.name for file in files] == ["0000.ply", "0001.ply", "0002.ply"]
    assert np.abs(_read(files[1]).vertices - _read(face).vertices).max() < 1e-3


def test_topology_is_told_and_its_template_written(mesh: Run, tmp_path: Path) -> None:
    told = mesh("topology").stdout
    written = mesh("topology", "--family", "hand-mesh", "--out", "a/template.glb", "--json")

    assert told == "30 vertices, 40 triangles · hand-mesh 1\n"
    assert json.loads(written.stdout) == {
        "family": "hand-mesh",
        "version": "1",
        "vertex_count": 30,
        "face_count": 40,
        "template": "a/template.glb",
    }
    template = _read(tmp_path / "a" / "template.glb")
    assert np.abs(template.vertices * 1000 - _MESHES.template).max() < 1e-3


def test_models_tell_what_a_family_makes(facegen: Run, mesh: Run) -> None:
    assert "30 vertices, 40 triangles" in facegen("models").stdout
    assert "30 vertices, 40 triangles" in facegen("models", "hand-mesh").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--count", "0"),
        ("generate", "--format", "stl"),
        ("reconstruct",),
        ("interpolate",),
        ("interpolate", "face.ply"),
        ("interpolate", "a.ply", "b.ply", "--seeds", "1,2"),
        ("interpolate", "--seeds", "one,two"),
        ("topology", "--out", "template.stl"),
        ("decode",),
    ],
)
def test_misuse_ends_with_2_before_any_call(facegen: Run, arguments: tuple[str, ...]) -> None:
    done = facegen("mesh", *arguments)

    assert done.code == 2
    assert "Error" in done.stderr


@pytest.mark.parametrize(
    "command", ["generate", "reconstruct", "encode", "decode", "interpolate", "topology"]
)
def test_every_command_has_help_and_is_documented(facegen: Run, command: str) -> None:
    done = facegen("mesh", command, "--help")
    page = (Path(__file__).parents[2] / "clients" / "README.md").read_text("utf-8")

    assert done.code == 0
    assert "--json" in done.stdout
    assert "FACEGEN_MESH_" not in done.stdout
    assert f"facegen mesh {command}" in page
