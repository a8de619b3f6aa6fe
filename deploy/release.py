"""Makes a release: wheel, sdist, the model repository, and of each extra what it brings, in dist/.

    python -m deploy.release [--extras base,serve] [--key ~/.ssh/id_ed25519]

Each extra is installed from the wheel in an environment of its own and does a job there. What it
brought is told as an SBOM (CycloneDX) and as a list of licences. `SHA256SUMS` has the hashes of
all, and with a key a signature beside it, to be checked by `ssh-keygen -Y verify`.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EXTRAS", "changes_of", "main"]

_ROOT = Path(__file__).parent.parent
_SBOM, _LICENCES = "cyclonedx-bom==7.5.0", "pip-licenses==5.5.5"
_ENGINE = ("--engine", "onnx:{models}")
_DRAW = ("render", "generate", "--family", "celeba-vae", "--count", "4", *_ENGINE)

EXTRAS: Mapping[str, Sequence[Sequence[str]]] = {
    "base": (("--help",), ("generate", "--help")),
    "serve": (("doctor", *_ENGINE),),
    "serve-gpu": (("serve", "--help"),),
    "render": ((*_DRAW, "--format", "parquet", "--out", "{scratch}/set"),),
    "ray": (("render", "--help"),),
    "web": (("studio", "--help"),),
    "train": (("train", "--help"), ("evaluate", "--help")),
    "export": (("export", "--help"),),
}
"""What is done with `facegen` where one extra is installed; the base is installed by none."""


def main(
    out: Annotated[Path, typer.Option(help="Where to; an empty folder, or none yet.")] = Path(
        "dist"
    ),
    extras: Annotated[str, typer.Option(help="Those to install, by commas.")] = ",".join(EXTRAS),
    key: Annotated[Path | None, typer.Option(help="SSH key that signs the hashes.")] = None,
) -> None:
    """Make a release of what is committed."""
    if out.exists() and any(out.iterdir()):
        raise typer.BadParameter(f"{out} is not empty; remove it")
    _run("uv", "build", "--quiet", "--out-dir", out, _ROOT)
    (out / ".gitignore").unlink(missing_ok=True)
    [wheel] = out.glob("*.whl")
    version = wheel.name.split("-")[1]
    changes_of(version)
    models = out / f"facegen-models-{version}.tar.gz"
    # As they are committed, and the same bytes from the same commit.
    archive = ("archive", "--format=tar.gz", f"--prefix=facegen-models-{version}/")
    _run("git", "-C", _ROOT, *archive, f"--output={models.resolve()}", "HEAD:models")
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(models, folder, filter="data")
        for extra in extras.split(","):
            print(f"facegen {version} {extra}", file=sys.stderr)
            _check(extra, wheel, next(Path(folder).iterdir()), version=version)
    _sign(out, key)


def changes_of(version: str) -> str:
    """Give what the changelog says of a release; of a version between releases, what is to come.

    Raises:
        typer.BadParameter: It says nothing.
    """
    title = "Unreleased" if ".dev" in version else version
    text = (_ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(rf"^## {re.escape(title)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if found is None or not found[1].strip():
        raise typer.BadParameter(f'CHANGELOG.md has nothing under "## {title}"; write it')
    return found[1].strip()


def _check(extra: str, wheel: Path, models: Path, *, version: str) -> None:
    """Install an extra, do its job, and tell what it brought."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "environment", "bin", "python")
        _run("uv", "venv", "--quiet", "--python", sys.executable, python.parent.parent)
        wanted = f"{wheel.resolve()}" + ("" if extra == "base" else f"[{extra}]")
        _run("uv", "pip", "install", "--quiet", "--python", python, wanted)
        _run("uv", "pip", "check", "--quiet", "--python", python)
        for command in EXTRAS[extra]:
            arguments = [part.format(models=models, scratch=folder) for part in command]
            _run(python.with_name("facegen"), *arguments, quiet=True)
        stem = wheel.parent / f"facegen-{version}-{extra}"
        bom = ("cyclonedx-py", "environment", "--output-reproducible", "-o", f"{stem}.cdx.json")
        _tool(_SBOM, *bom, "--pyproject", _ROOT / "pyproject.toml", python)
        licences = ("pip-licenses", "--format=markdown", "--with-urls", "--python", python)
        _tool(_LICENCES, *licences, f"--output-file={stem}-licences.md")


def _tool(package: str, *command: str | Path) -> None:
    _run("uv", "tool", "run", "--quiet", "--from", package, *command, quiet=True)


def _sign(out: Path, key: Path | None) -> None:
    files = sorted(path for path in out.iterdir() if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    sums = out / "SHA256SUMS"
    sums.write_text("".join(lines), "utf-8")
    if key is not None:
        _run("ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "facegen", sums)


def _run(*command: str | Path, quiet: bool = False) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout or "", file=sys.stderr)
        print(f"{' '.join(map(str, command))}: exit code {done.returncode}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
