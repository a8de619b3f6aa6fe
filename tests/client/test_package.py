import inspect
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import facegen.client
from facegen.client import AsyncClient, Client

COMMANDS = [point.name for point in entry_points(group="facegen.commands")]
BLOCK = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""
NOT_IN_THE_BASE_INSTALL = {
    "PIL", "lightning", "numpy", "onnx", "onnxruntime", "pydantic_settings", "simplejpeg",
    "sklearn", "tensorboard", "torch", "torchmetrics", "torchvision", "trimesh", "tritonclient",
    "matplotlib",
}  # fmt: skip


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "100", "NO_COLOR": "1"},
        check=False,
    )


def run_without(blocked: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    main = "from facegen.client.cli import main; main()"
    return run(BLOCK.format(blocked=blocked) + main, *arguments)


def test_base_install_imports_alone() -> None:
    names = f"for name in {facegen.client.__all__!r}: getattr(facegen.client, name)"

    done = run(BLOCK.format(blocked=NOT_IN_THE_BASE_INSTALL) + f"import facegen.client\n{names}")

    assert done.returncode == 0, done.stderr


def test_help_lists_every_command_in_the_base_install() -> None:
    done = run_without(NOT_IN_THE_BASE_INSTALL, "--help")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for command in COMMANDS:
        [line] = [line for line in lines if line.startswith(f"│ {command} ")]
        assert len(line.strip("│ ").removeprefix(command).strip()) > 10, f"{command} has no help"
    assert "pip install 'facegen[train]'" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    show = "import sys, atexit; atexit.register(lambda: print(sorted(sys.modules)))\n"

    done = run(show + "from facegen.client.cli import main; main()", "--help")

    for module in ("torch", "onnxruntime", "numpy", "grpc"):
        assert f"'{module}'" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = run("from facegen.client.cli import main; main()", command, "--help")

    assert done.returncode == 0, done.stderr
    assert f"Usage: facegen {command}" in done.stdout


@pytest.mark.parametrize(
    ("command", "extra", "blocked"),
    [
        ("train", "train", {"torch", "lightning"}),
        ("serve", "serve", {"tritonclient", "onnxruntime"}),
    ],
)
def test_missing_package_is_answered_with_the_extra_that_brings_it(
    command: str, extra: str, blocked: set[str]
) -> None:
    arguments = {"train": ["celeba-vae"], "serve": []}[command]

    done = run_without(blocked, command, *arguments)

    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: facegen {command} needs packages that are not installed:"
        f" pip install 'facegen[{extra}]'"
    )
    assert "Traceback" not in done.stderr


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def signatures(client: type) -> dict[str, list[inspect.Parameter]]:
        methods = inspect.getmembers(client, inspect.isfunction)
        return {
            name: list(inspect.signature(method).parameters.values())
            for name, method in methods
            if not name.startswith("_")
        }

    assert signatures(Client) == signatures(AsyncClient)
    assert set(signatures(Client)) == {
        "close", "decode", "decode_meshes", "edit", "encode", "encode_meshes", "generate",
        "generate_meshes", "generate_meshes_stream", "generate_stream", "health", "interpolate",
        "interpolate_meshes", "model", "models", "reconstruct", "reconstruct_meshes", "topology",
        "transfer", "wait_until_serving",
    }  # fmt: skip


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'facegen\.client' has no attribute 'Klient'"):
        _ = facegen.client.Klient


def test_dir_lists_the_public_names() -> None:
    assert dir(facegen.client) == sorted(facegen.client.__all__)
