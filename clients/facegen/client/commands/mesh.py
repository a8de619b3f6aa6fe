"""`facegen mesh`: draw, reconstruct and blend meshes of faces."""

from pathlib import Path
from typing import Annotated, Any

import typer

from facegen.client.commands.connection import Connection, calls_a_server
from facegen.client.commands.mesh_files import (
    MeshFormat,
    format_of,
    latents_from,
    name_results,
    save_path,
)
from facegen.client.commands.options import (
    FamilyOption,
    JsonOption,
    PriorOption,
    TimeoutOption,
    VersionOption,
    seed_pair,
)

__all__ = ["mesh"]

MeshFormatOption = Annotated[
    MeshFormat,
    typer.Option(
        "--format", help="The format of the files; raw: vertices alone, float32, millimetres."
    ),
]

mesh = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@mesh.callback()
def _mesh() -> None:
    """Draw, reconstruct and blend meshes of faces."""


@mesh.command("generate")
@calls_a_server
def generate(
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, metavar="N", help="How many meshes.")
    ] = 4,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="The same seed gives the same meshes.",
            show_default="random",
        ),
    ] = None,
    first_index: Annotated[
        int, typer.Option(min=0, metavar="N", help="The first mesh's index under the seed.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="The folder for the meshes.")] = Path("meshes"),
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=10,
            metavar="NUMBER",
            help="Below 1: plainer; above: odder.",
            show_default="1",
        ),
    ] = None,
    prior: PriorOption = "",
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: MeshFormatOption = "ply",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Draw meshes.

    A mesh depends on its seed and index alone, and its file is named by its index: meshes 0 to 99
    can be drawn in one go or in a hundred.
    """
    from facegen.client.commands.output import console, make_folder, print_json, progress_bar

    make_folder(out)
    mime_type, suffix = format_of(file_format)
    files: list[Path] = []
    with connection.client(timeout_s=timeout_s) as client, progress_bar("meshes") as progress:
        meshes = client.generate_meshes_stream(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            mime_type=mime_type,
        )
        for drawn in progress.track(meshes, total=count, description="meshes"):
            files.append(out / f"{drawn.index:08}{suffix}")
            drawn.mesh.save(files[-1])
    if as_json:
        facts = {"seed": drawn.seed, "first_index": first_index, "temperature": temperature}
        made_by = {"family": drawn.family, "version": drawn.version, "prior": drawn.prior}
        print_json({**facts, **made_by, "count": count, "files": files})
        return
    console().print(
        f"{count} meshes in [bold]{out}/[/] [dim]· {drawn.family} {drawn.version},"
        f" prior {drawn.prior},[/] seed [bold]{drawn.seed}[/]"
    )


@mesh.command("reconstruct")
@calls_a_server
def reconstruct(
    meshes: Annotated[
        list[Path],
        typer.Argument(help="PLY or OBJ files in the family's topology; .f32: vertices alone."),
    ],
    out: Annotated[Path, typer.Option(help="The folder for the meshes.")] = Path("reconstructions"),
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: MeshFormatOption = "ply",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Encode meshes and decode them again, and tell how far off their vertices then are.

    A mesh that cannot be used is reported and left out; the exit code is then 1.
    """
    from facegen.client.commands.mesh_files import each_mesh
    from facegen.client.commands.output import console, make_folder, print_json

    make_folder(out)
    mime_type, suffix = format_of(file_format)
    files = name_results(meshes, out, suffix)
    done: dict[str, dict[str, Any]] = {}

    with connection.client(timeout_s=timeout_s) as client:

        def send(path: Path) -> None:
            answer = client.reconstruct_meshes(
                [path], family=family, version=version, mime_type=mime_type
            )
            (made,) = answer.meshes
            made.mesh.save(files[path])
            done[str(path)] = {
                "file": files[path],
                "mean_error_mm": made.mean_error_mm,
                "max_error_mm": made.max_error_mm,
                "model": f"{answer.family} {answer.version}",
            }

        errors = each_mesh(list(files), send)
    if as_json:
        print_json({"meshes": done, "errors": errors})
    for name, it in () if as_json else done.items():
        console().print(
            f"{name}: mean [bold]{it['mean_error_mm']:.3f} mm[/], largest "
            f"{it['max_error_mm']:.3f} mm [dim]· {it['model']} ·[/] {it['file']}"
        )
    if errors:
        raise typer.Exit(1)


@mesh.command("encode")
@calls_a_server
def encode(
    meshes: Annotated[
        list[Path],
        typer.Argument(help="PLY or OBJ files in the family's topology; .f32: vertices alone."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The JSON file for the latents.", show_default="standard output"),
    ] = None,
    family: FamilyOption = "",
    version: VersionOption = "",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Give the latents of meshes as JSON, which `facegen mesh decode` takes.

    A mesh that cannot be used is reported and left out; the exit code is then 1.
    """
    from facegen.client.commands.mesh_files import each_mesh, write_latents
    from facegen.client.commands.output import console, print_json

    latents: list[dict[str, Any]] = []
    with connection.client(timeout_s=timeout_s) as client:

        def send(path: Path) -> None:
            (encoding,) = client.encode_meshes([path], family=family, version=version)
            mean = encoding.mean
            latents.append(
                {
                    "file": path,
                    "family": mean.family,
                    "version": mean.version,
                    "values": mean.values,
                    "log_variance": encoding.log_variance,
                }
            )

        errors = each_mesh(meshes, send)
    if out is None:
        print_json({"latents": latents, "errors": errors})
    else:
        write_latents(out, latents)
        if as_json:
            print_json({"count": len(latents), "out": out, "errors": errors})
        else:
            console().print(f"{len(latents)} latents in [bold]{out}[/]")
    if errors:
        raise typer.Exit(1)


@mesh.command("decode")
@calls_a_server
def decode(
    latents: Annotated[Path, typer.Argument(help="A JSON file that `facegen mesh encode` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder for the meshes.")] = Path("meshes"),
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: MeshFormatOption = "ply",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Make the meshes of latents, named by their places in the file."""
    from facegen.client.commands.output import console, print_json

    mime_type, suffix = format_of(file_format)
    wanted = latents_from(latents)
    with connection.client(timeout_s=timeout_s) as client:
        answer = client.decode_meshes(wanted, family=family, version=version, mime_type=mime_type)
        files = save_path(answer.meshes, out, suffix)
    if as_json:
        model = {"family": answer.family, "version": answer.version}
        print_json({**model, "count": len(files), "files": files})
        return
    console().print(
        f"{len(files)} meshes in [bold]{out}/[/] [dim]· {answer.family} {answer.version}[/]"
    )


@mesh.command("interpolate")
@calls_a_server
def interpolate(
    meshes: Annotated[
        list[Path] | None,
        typer.Argument(help="Two meshes: where the path begins and ends."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Go between mesh 0 of two seeds instead of two files."),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", min=2, metavar="N", help="How many meshes, both ends included."
        ),
    ] = 9,
    linear: Annotated[
        bool,
        typer.Option(
            "--linear/--spherical", help="A straight line, or a great circle between latents."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="The folder for the meshes.")] = Path("path"),
    prior: PriorOption = "",
    family: FamilyOption = "",
    version: VersionOption = "",
    file_format: MeshFormatOption = "ply",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Make the path from one face to another, between two meshes or two seeds."""
    from facegen.client.commands.output import console, print_json
    from facegen.client.types import DrawnFace

    pair = seed_pair(seeds, meshes or [], what="meshes")
    ends: Any = meshes if pair is None else [DrawnFace(seed, prior=prior) for seed in pair]
    mime_type, suffix = format_of(file_format)
    form = "linear" if linear else "spherical"
    with connection.client(timeout_s=timeout_s) as client:
        answer = client.interpolate_meshes(
            ends[0],
            ends[1],
            count=count,
            interpolation="linear" if linear else "spherical",
            family=family,
            version=version,
            mime_type=mime_type,
        )
        files = save_path(answer.meshes, out, suffix)
    if as_json:
        model = {"family": answer.family, "version": answer.version}
        print_json({**model, "count": count, "interpolation": form, "files": files})
        return
    console().print(
        f"{count} meshes in [bold]{out}/[/] [dim]· {answer.family} {answer.version}, {form}[/]"
    )


@mesh.command("topology")
@calls_a_server
def topology(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the template into this file, its format by its suffix: .ply, .obj, .glb, "
            "or .f32 for vertices alone."
        ),
    ] = None,
    family: FamilyOption = "",
    version: VersionOption = "",
    as_json: JsonOption = False,
    timeout_s: TimeoutOption = 30.0,
    *,
    connection: Connection,
) -> None:
    """Tell the topology of a family's meshes, or write its template with its triangles."""
    from facegen.client.commands.mesh_files import mime_type_of
    from facegen.client.commands.output import console, make_folder, print_json

    mime_type = mime_type_of(out)
    with connection.client(timeout_s=timeout_s) as client:
        answer = client.topology(family, version=version, mime_type=mime_type)
    if out is not None:
        make_folder(out.parent)
        answer.template.save(out)
    facts = {"vertex_count": answer.vertex_count, "face_count": answer.face_count}
    if as_json:
        model = {"family": answer.family, "version": answer.version}
        print_json({**model, **facts, "template": out and str(out)})
        return
    place = f" in [bold]{out}[/]" if out else ""
    console().print(
        f"{answer.vertex_count} vertices, {answer.face_count} triangles{place}"
        f" [dim]· {answer.family} {answer.version}[/]"
    )
