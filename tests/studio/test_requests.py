"""What the page shows to copy makes the very files that the page makes."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from facegen.client import Client
from facegen.client.commands.connection import Connection
from facegen.studio.calls import Photo, Request, ShownServer
from facegen.studio.requests import (
    draw_request,
    edit_request,
    generate_request,
    interpolate_request,
    mesh_request,
    transfer_request,
)
from tests.studio.running import PHOTO, run_command, run_python

_DATA = PHOTO.read_bytes()
_ME = Photo("it's me.jpg", _DATA)
_FACES = {"family": "celeba-vae", "prior": "mixture"}
_PATH: dict[str, Any] = {"count": 5, "frame_ms": 60, "there_and_back": False, **_FACES}
_REQUESTS = {
    "transfer": transfer_request(
        _ME, ["happiness", "anger"], strength=0.85, family="fer-expressions"
    ),
    "generate": generate_request(3, seed=7, temperature=0.8, **_FACES),
    "generate-unknown": generate_request(2, seed=7, temperature=1, prior="", family=""),
    "draw": draw_request(9, **_FACES),
    "edit-seed": edit_request(9, {"Smiling": 1.2, "Eyeglasses": -0.5}, **_FACES),
    "edit-photo": edit_request(_ME, {"Black_Hair": 1}, **_FACES),
    "interpolate-seeds": interpolate_request((7, 8), **_PATH),
    "interpolate-photos": interpolate_request((_ME, Photo("-b.jpg", _DATA)), **_PATH),
    "mesh": mesh_request(11, temperature=1, prior="mixture", family="ict-mesh", file_format="obj"),
}


@pytest.mark.parametrize("name", _REQUESTS)
def test_command_and_program_make_the_same_files(
    name: str, bundled_server: str, tmp_path: Path
) -> None:
    request = _REQUESTS[name]
    server = ShownServer(bundled_server, Connection())
    by_command, by_program = _folder(tmp_path / "command"), _folder(tmp_path / "program")

    command = run_command(*shlex.split(request.command_line(server))[1:], folder=by_command)
    program = run_python(request.python(server), folder=by_program)

    assert command.returncode == 0, command.stderr
    assert program.returncode == 0, program.stderr
    made = _made(by_program)
    assert made
    assert _made(by_command) == made


def test_program_makes_what_the_call_itself_gives(bundled_server: str, tmp_path: Path) -> None:
    request: Request = _REQUESTS["transfer"]
    folder = _folder(tmp_path / "program")

    run_python(request.python(ShownServer(bundled_server, Connection())), folder=folder)
    with Client(bundled_server, timeout_s=60) as client:
        answer = request.call.make(client)

    given = {it.expression: it.image.data for it in answer.photos[0].images}
    assert given.keys() == {"happiness", "anger"}
    assert {f"it's me-{name}.jpg": data for name, data in given.items()} == _made(folder)


def _folder(folder: Path) -> Path:
    folder.mkdir()
    for name in (_ME.name, "-b.jpg"):
        folder.joinpath(name).write_bytes(_DATA)
    return folder


def _made(folder: Path) -> dict[str, bytes]:
    files = (it for it in folder.rglob("*") if it.is_file())
    return {it.name: it.read_bytes() for it in files if it.name not in (_ME.name, "-b.jpg")}
