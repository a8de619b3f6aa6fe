"""Builds an image without Docker, in a clean Debian, runs it locked down, and tells its size.

    python -m deploy.image [server|studio] [--folder build/image] [--mirror URL]

It does the steps of serving/Dockerfile, read from that file, each RUN under chroot. Debian's own
Python stands in for the image's, which is the same release built by others. The command of the
image then runs as its user, without capabilities, with a network of its own, on a file system that
is read-only but for /tmp, until its health check passes. Needs root and Debian's debootstrap.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from deploy.dockerfile import Stage, copied_files, environment_of, read_stages

__all__ = ["main"]

_ROOT = Path(__file__).parent.parent
_DOCKERFILE = _ROOT / "serving" / "Dockerfile"
_IGNORED = _ROOT / "serving" / "Dockerfile.dockerignore"
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_INDEX = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
_READY_S = 120.0
_LOOK_S = 0.5

# Mounted in a namespace of its own: the root read-only, /tmp writable, as compose has it.
_LOCKED = """
ip link set lo up
mount --bind {root} {root}
mount -o remount,bind,ro {root}
mount -t tmpfs tmpfs {root}/tmp
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
exec {command}
"""


def main(
    target: Annotated[str, typer.Argument(help="Which stage of the Dockerfile.")] = "server",
    folder: Annotated[Path, typer.Option(help="Where to; kept, to look at.")] = Path("build/image"),
    mirror: Annotated[
        str, typer.Option(help="Where Debian's packages are.", show_default="debootstrap's")
    ] = "",
) -> None:
    """Build an image's file system, run it, and tell what it weighs."""
    folder = folder.resolve()
    stages = read_stages(_DOCKERFILE)
    stage = stages[target]
    debian = _debian(folder, mirror)
    begin = time.monotonic()
    root = _build(stage, stages, folder)
    typer.echo(f"built in {time.monotonic() - begin:.0f} s, most of it pip's")
    _tell_sizes(debian, root)
    _run(stage, root, _environment(stage, stages))


def _debian(folder: Path, mirror: str) -> Path:
    """Make the stand-in for the image's base, once."""
    debian = folder / "debian"
    if not debian.exists():
        command = ("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm")
        where = (debian, mirror) if mirror else (debian,)
        subprocess.run([*command, *where], check=True, stdout=subprocess.DEVNULL)
        (debian / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        (debian / "etc/hosts").write_text("127.0.0.1 localhost\n", "ascii")  # as Docker does
    return debian


def _build(stage: Stage, stages: Mapping[str, Stage], folder: Path) -> Path:
    """Do the steps of a stage and of those it needs; gives its root."""
    root = folder / stage.name
    if root.exists():
        shutil.rmtree(root)
    parent = stages.get(stage.parent)
    begin = _build(parent, stages, folder) if parent else folder / "debian"
    subprocess.run(["cp", "-a", "--reflink=auto", begin, root], check=True)
    where = _folder_of(parent, stages)
    for index, it in enumerate(stage.instructions):
        match it.name:
            case "WORKDIR":
                where = Path(it.text)
                (root / where.relative_to("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                origin = it.options.get("from")
                other = _build(stages[origin], stages, folder) if origin else None
                _copy(it.arguments.split(), other, root=root, where=where)
            case "RUN":
                before = _environment(parent, stages)
                environment = environment_of(stage.instructions[:index], before)
                _in_root(root, it.arguments, where=where, environment=environment)
    return root


def _folder_of(stage: Stage | None, stages: Mapping[str, Stage]) -> Path:
    """Give the WORKDIR that a stage leaves."""
    if stage is None:
        return Path("/")
    before = _folder_of(stages.get(stage.parent), stages)
    return next((Path(it.text) for it in stage.instructions if it.name == "WORKDIR"), before)


def _copy(words: Sequence[str], other: Path | None, *, root: Path, where: Path) -> None:
    """Copy of another stage, or of the build's context."""
    *sources, target = words
    into = root / (where / target).relative_to("/")
    if other is not None:
        [source] = sources
        into.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", other / source.removeprefix("/"), into], check=True)
        return
    for source in sources:
        for path in copied_files(_ROOT, source, _IGNORED):
            base = _ROOT / source
            copy = into / (path.name if path == base else path.relative_to(base))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def _in_root(root: Path, script: str, *, where: Path, environment: Mapping[str, str]) -> None:
    """Do a RUN, with this machine's way to the network and to packages."""
    for file in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(file, root / file.removeprefix("/"))
    settings = {name: os.environ[name] for name in _INDEX if name in os.environ}
    inner = shlex.quote(f"cd {where} && {script}")
    mounts = f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev"
    subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"{mounts} && exec chroot {root} sh -ec {inner}"],
        check=True,
        env={"HOME": "/root", **environment, **settings},
        stdout=subprocess.DEVNULL,
    )


def _environment(stage: Stage | None, stages: Mapping[str, Stage]) -> dict[str, str]:
    """Give the environment that a stage leaves."""
    if stage is None:
        return {"PATH": _PATH}
    before = _environment(stages.get(stage.parent), stages)
    return environment_of(stage.instructions, before)


def _tell_sizes(debian: Path, root: Path) -> None:
    """Tell what the image weighs, without compression, and which packages do."""
    packages = next((root / "opt/facegen/lib").glob("python3*/site-packages"))
    typer.echo(f"{_megabytes(debian):6.0f} MB  Debian with pip, in place of the image's base")
    for path in [root / "opt/facegen", root / "models"]:
        if path.exists():
            typer.echo(f"{_megabytes(path):6.0f} MB  /{path.relative_to(root)}")
    largest = sorted(((_megabytes(it), it.name) for it in packages.iterdir()), reverse=True)[:8]
    typer.echo("of it: " + ", ".join(f"{name} {size:.0f}" for size, name in largest))


def _megabytes(path: Path) -> float:
    return sum(it.lstat().st_size for it in [path, *path.rglob("*")]) / 1e6


def _run(stage: Stage, root: Path, environment: Mapping[str, str]) -> None:
    """Run the image's command locked down, until its health check passes; then end it."""
    user = stage.last("USER").text.partition(":")[0]
    locked = [
        *("chroot", str(root), "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
    ]
    script = _LOCKED.format(root=root, command=shlex.join([*locked, *stage.last("CMD").command]))
    unshared = ("unshare", "--mount", "--net", "--pid", "--fork")
    begin = time.monotonic()
    # The shell is the first process of its namespace, and becomes the command itself.
    with subprocess.Popen([*unshared, "sh", "-ec", script], env=dict(environment)) as process:
        inside = _first_child(process.pid)
        entered = ("nsenter", f"--target={inside}", "--mount", "--net", "--pid", *locked)
        try:
            _wait_until_healthy([*entered, *stage.last("HEALTHCHECK").command], environment)
            typer.echo(f"healthy after {time.monotonic() - begin:.1f} s")
            os.kill(inside, signal.SIGTERM)
            typer.echo(f"ended with exit code {process.wait(timeout=60)} at SIGTERM")
        finally:
            if process.poll() is None:  # its user is another, and so it outlives its parent
                os.kill(inside, signal.SIGKILL)


def _first_child(pid: int) -> int:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if words := Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
            return int(words[0])
        time.sleep(_LOOK_S / 10)
    raise TimeoutError(f"nothing ran in the namespace after {_READY_S:.0f} s")


def _wait_until_healthy(check: Sequence[str], environment: Mapping[str, str]) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        done = subprocess.run(check, env=dict(environment), capture_output=True, text=True)
        if done.returncode == 0:
            typer.echo(f"{' '.join(check[-2:])}: {done.stdout.strip() or 'exit code 0'}")
            return
        time.sleep(_LOOK_S)
    raise TimeoutError(f"not healthy after {_READY_S:.0f} s: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    typer.run(main)
