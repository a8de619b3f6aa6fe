"""Regenerate the Python code beside each `.proto`; `--check` only says whether it is up to date."""

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"


def generate(out: Path) -> list[Path]:
    """Write messages, stubs and their types for every proto under `out`.

    Args:
        out: The folder that takes the place of `protos/`.

    Returns:
        The generated files, relative to `out`.

    Raises:
        SystemExit: protoc refused a proto; it has printed why.
    """
    protos = sorted(ROOT.glob("facegen/**/*.proto"))
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")]
    plugins = [
        f"--plugin=protoc-gen-{kind}={Path(sys.executable).with_name(f'protoc-gen-{kind}')}"
        for kind in ("mypy", "mypy_grpc")
    ]
    status = protoc.main(
        ["protoc", f"-I{ROOT}", f"-I{WELL_KNOWN}", *plugins, *outputs, *map(str, protos)]
    )
    if status != 0:
        raise SystemExit(status)
    for proto in protos:
        if "\nservice " not in proto.read_text():
            stem = out / proto.relative_to(ROOT).with_suffix("")
            for suffix in (".py", ".pyi"):
                Path(f"{stem}_pb2_grpc{suffix}").unlink(missing_ok=True)
    return sorted(path.relative_to(out) for path in out.glob("facegen/**/*_pb2*.py*"))


def stale_files() -> list[str]:
    """Name the generated files that differ from what the protos give now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        expected = generate(fresh)
        found = [path.relative_to(ROOT) for path in ROOT.glob("facegen/**/*_pb2*.py*")]
        return sorted(
            str(path)
            for path in {*expected, *(path for path in found if path.suffix in {".py", ".pyi"})}
            if path not in expected
            or path not in found
            or (fresh / path).read_bytes() != (ROOT / path).read_bytes()
        )


def main() -> None:
    """Regenerate, or with `--check` compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 where code is out of date")
    if not parser.parse_args().check:
        generate(ROOT)
    elif stale := stale_files():
        sys.exit(f"out of date, run `make protos`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
