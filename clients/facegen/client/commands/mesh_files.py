"""The files of `facegen mesh`: meshes in several formats, and latents as JSON."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from facegen.client.meshes import Mesh
    from facegen.client.types import Latent

__all__ = [
    "MeshFormat",
    "each_mesh",
    "format_of",
    "latents_from",
    "mime_type_of",
    "name_results",
    "save_path",
    "write_latents",
]

MeshFormat = Literal["ply", "obj", "glb", "raw"]

_FORMATS: dict[str, tuple[str, str]] = {
    "ply": ("model/ply", ".ply"),
    "obj": ("model/obj", ".obj"),
    "glb": ("model/gltf-binary", ".glb"),
    "raw": ("application/octet-stream", ".f32"),
}


def format_of(name: MeshFormat) -> tuple[str, str]:
    """Give the MIME type and the suffix of a format."""
    return _FORMATS[name]


def mime_type_of(path: Path | None) -> str:
    """Tell the format of a file by its suffix; of none vertices alone."""
    if path is None:
        return _FORMATS["raw"][0]
    types = {suffix: mime_type for mime_type, suffix in _FORMATS.values()}
    if path.suffix.lower() not in types:
        known = ", ".join(types)
        raise typer.BadParameter(f"{path} ends in none of {known}", param_hint="--out")
    return types[path.suffix.lower()]


def name_results(meshes: Sequence[Path], out: Path, suffix: str) -> dict[Path, Path]:
    """Name the file of each mesh's result after it; those of one name are numbered."""
    files: dict[Path, Path] = {}
    seen: Counter[str] = Counter()
    for mesh in dict.fromkeys(meshes):
        seen[mesh.stem] += 1
        number = f"-{seen[mesh.stem]}" if seen[mesh.stem] > 1 else ""
        files[mesh] = out / f"{mesh.stem}{number}-reconstruction{suffix}"
    return files


def save_path(meshes: "Sequence[Mesh]", out: Path, suffix: str) -> list[Path]:
    """Write meshes into a folder, named by their places."""
    from facegen.client.commands.output import make_folder

    make_folder(out)
    files = [out / f"{step:04}{suffix}" for step in range(len(meshes))]
    for mesh, file in zip(meshes, files, strict=True):
        mesh.save(file)
    return files


def each_mesh(meshes: Sequence[Path], send: Callable[[Path], None]) -> dict[str, str]:
    """Do something with mesh after mesh: one that cannot be used does not stop the others.

    Returns:
        What was wrong with those that could not, by their paths.
    """
    from facegen.client.commands.output import print_error, progress_bar
    from facegen.client.errors import FileError, InvalidRequestError, ResourceExhaustedError

    errors: dict[str, str] = {}
    with progress_bar("meshes") as progress:
        for path in progress.track(meshes, description="meshes"):
            try:
                send(path)
            except (FileError, InvalidRequestError, ResourceExhaustedError) as error:
                errors[str(path)] = str(error)
                subject = "" if isinstance(error, FileError) else str(path)
                print_error(error, progress, subject=subject)
    return errors


def write_latents(path: Path, latents: Sequence[dict[str, Any]]) -> None:
    """Write latents as JSON.

    Raises:
        FileError: The file cannot be written.
    """
    from facegen.client.commands.output import make_folder
    from facegen.client.files import write_atomically

    make_folder(path.parent)
    text = json.dumps({"latents": latents}, default=str, indent=2)
    write_atomically(path, f"{text}\n".encode())


def latents_from(path: Path) -> "list[Latent]":
    """Read the latents that `write_latents` wrote.

    Raises:
        FileError: The file cannot be read, or holds something else.
    """
    from facegen.client.errors import FileError
    from facegen.client.types import Latent

    try:
        said = json.loads(path.read_bytes())
        return [
            Latent(str(it["family"]), str(it.get("version", "")), tuple(map(float, it["values"])))
            for it in said["latents"]
        ]
    except OSError as error:
        raise FileError(path, problem=error.strerror or str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(
            path,
            problem='holds no {"latents": [{"family": …, "values": […]}, …]}, which '
            f"`facegen mesh encode` writes ({type(error).__name__}: {error})",
        ) from error
