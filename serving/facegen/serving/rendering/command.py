"""The command `facegen render`: a flag for each field of a job and of `RunConfig`."""

import inspect
import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from facegen.serving.errors import InputError, StoppedError
from facegen.serving.flags import flags_of, read_flags
from facegen.serving.rendering.job import (
    MESH_FORMATS,
    GenerateJob,
    InterpolateJob,
    Job,
    ReconstructJob,
    RunConfig,
    TransferJob,
    job_from,
)

if TYPE_CHECKING:
    from facegen.serving.rendering.session import Prepared

__all__ = ["render"]

# The panels of --help, by the field that each begins with.
_JOB_PANELS = {"family": "Data set", "count": "Faces", "input": "Photos or meshes"}

render = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print events, or the result, as lines of JSON.")
]


@render.callback()
def _render() -> None:
    """Render data sets of faces, without a server.

    A data set is cut into shards. Each is written aside, synced, put in its place and then
    journalled: kill a run at any moment, run the command again with --resume, and the bytes are
    those of one that was never killed.
    """


def _job_flags(job_type: type[Job]) -> list[inspect.Parameter]:
    """Make the flags of a job: what it alone has comes first."""
    flags = list(flags_of(job_type, panels=_JOB_PANELS, show_variables=False))
    names = [flag.name for flag in flags]
    shared_count = names.index("where") + 1
    return [flag for flag in flags[shared_count:] + flags[:shared_count] if flag.name != "kind"]


def _run_flags() -> list[inspect.Parameter]:
    return list(flags_of(RunConfig, panels={"out": "Run"}, show_variables=False))


def _job_command(job_type: type[Job]) -> Callable[..., None]:
    """Make the command that renders jobs of a type."""

    def command(*, as_json: bool = False, **flags: Any) -> None:
        names = job_type.model_fields
        job = read_flags(job_type, {name: flags[name] for name in flags if name in names})
        config = read_flags(RunConfig, {name: flags[name] for name in flags if name not in names})
        _run(job, config, as_json=as_json)

    command.__doc__ = job_type.__doc__
    as_json = inspect.signature(command).parameters["as_json"].replace(annotation=JsonOption)
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*_job_flags(job_type), *_run_flags(), as_json]
    )
    return command


render.command("generate")(_job_command(GenerateJob))
render.command("reconstruct")(_job_command(ReconstructJob))
render.command("transfer")(_job_command(TransferJob))
render.command("interpolate")(_job_command(InterpolateJob))


def _run_command() -> Callable[..., None]:
    """Make the command that renders the job of a file."""

    def command(context: typer.Context, file: Path, *, as_json: bool = False, **flags: Any) -> None:
        job, said = _read_job(file)
        given = {
            name: value
            for name, value in flags.items()
            if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"
        }
        if not (said | given).get("out"):
            raise typer.BadParameter("give --out, or out in the file's table [run]")
        _run(job, read_flags(RunConfig, said | given), as_json=as_json)

    command.__doc__ = """Render the job of a TOML file.

    Its keys are `kind`, the name of one of the commands above, and the flags of that command with
    underscores. A table `[run]` may tell how to run it; flags that are given here come first.
    """
    own = inspect.signature(command).parameters
    argument = Annotated[Path, typer.Argument(help="The file.")]
    flags = [flag.replace(default="") if flag.name == "out" else flag for flag in _run_flags()]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            own["context"],
            own["file"].replace(annotation=argument),
            *flags,
            own["as_json"].replace(annotation=JsonOption),
        ]
    )
    return command


render.command("run")(_run_command())


@render.command("verify")
def verify(
    data_set: Annotated[str, typer.Argument(metavar="DIR", help="The data set, or its URL.")],
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a data set, done or not, against what its run told of it.

    The exit code is 1 if anything is wrong, or missing.
    """
    from rich.console import Console

    from facegen.serving.rendering.printing import print_verification, verifying
    from facegen.serving.rendering.verify import verify as check

    with verifying(shown=not as_json) as told:
        found = check(data_set, told=told)
    if as_json:
        _print_json(asdict(found))
    else:
        print_verification(found, data_set, Console(highlight=False, soft_wrap=True))
    if not found.complete:
        raise typer.Exit(1)


@render.command("sheet")
def sheet(
    data_set: Annotated[str, typer.Argument(metavar="DIR", help="The data set, or its URL.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The PNG file.")] = Path("sheet.png"),
    count: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="How many pictures.")
    ] = 48,
    columns: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pictures in a row.", show_default="about 3 : 2"),
    ] = None,
) -> None:
    """Draw a contact sheet of a data set: pictures from all over it, as PNG."""
    from facegen.serving.rendering.sheet import write_sheet

    if out.suffix.lower() != ".png":
        raise typer.BadParameter(f"{out} does not end in .png", param_hint="--out")
    drawn = write_sheet(data_set, out, count=count, columns=columns)
    typer.echo(f"{drawn} pictures in {out}")


def _read_job(file: Path) -> tuple[Job, dict[str, Any]]:
    """Read a job, and how it is to be run."""
    try:
        fields = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError("file", f"{file} cannot be read: {error}") from error
    said = fields.pop("run", {})
    try:
        return job_from(fields), said
    except ValidationError as error:
        first = error.errors()[0]
        # The first name is that of the kind.
        field = ".".join(str(part) for part in first["loc"][1:]) or "kind"
        raise InputError(f"{file}: {field}", first["msg"]) from error


def _run(job: Job, config: RunConfig, *, as_json: bool) -> None:
    """Render a job, or tell what it takes."""
    from facegen.serving.rendering.progress import Bar, JsonEvents
    from facegen.serving.rendering.session import prepare
    from facegen.serving.rendering.session import render as render_job
    from facegen.serving.telemetry.logs import configure_logging

    configure_logging("warning")
    if config.ray and config.processes:
        raise typer.BadParameter(
            "is of this machine; with --ray use --workers", param_hint="--processes"
        )
    prepared = prepare(job, config)
    if config.dry_run:
        _tell_estimate(prepared, config, as_json=as_json)
        return
    observer = JsonEvents() if as_json else Bar(_unit(prepared.plan.job))
    if isinstance(observer, JsonEvents):
        observer.tell("start", out=config.out, **prepared.plan.as_json())
    try:
        with observer:
            manifest = render_job(prepared, config, observer)
    except StoppedError as error:
        told = f"{config.out}: stopped; what is done is kept, go on with --resume"
        typer.echo(told, err=True)
        raise typer.Exit(128 + error.signal_number) from error
    _tell_end(manifest, config.out, observer)
    if manifest["counts"]["errors"] >= prepared.plan.item_count:
        raise typer.Exit(1)


def _unit(job: Job) -> str:
    if isinstance(job, ReconstructJob | TransferJob):
        return "files"
    return "meshes" if job.coding in MESH_FORMATS else "images"


def _tell_estimate(prepared: "Prepared", config: RunConfig, *, as_json: bool) -> None:
    from rich.console import Console

    from facegen.serving.rendering.printing import print_estimate
    from facegen.serving.rendering.probe import estimate

    found = estimate(prepared, config)
    if as_json:
        _print_json({"event": "estimate", **asdict(found)})
    else:
        print_estimate(found, _unit(prepared.plan.job), Console(highlight=False, soft_wrap=True))


def _tell_end(manifest: Mapping[str, Any], out: str, observer: Any) -> None:
    from rich.console import Console

    from facegen.serving.rendering.printing import print_end
    from facegen.serving.rendering.progress import JsonEvents

    if isinstance(observer, JsonEvents):
        facts = {name: manifest[name] for name in ("counts", "timings", "environment")}
        observer.tell("done", out=out, **facts)
    else:
        print_end(manifest, out, Console(highlight=False, soft_wrap=True))


def _print_json(value: Mapping[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
