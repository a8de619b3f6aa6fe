import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

Run = Callable[..., Any]
MAIN = [sys.executable, "-c", "from facegen.client.cli import main; main()"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    PillowImage.linear_gradient("L").convert("RGB").resize((90, 70)).save(path)
    return path


def test_version_is_the_distributions(facegen: Run) -> None:
    assert facegen("--version").stdout == f"facegen {version('facegen')}\n"


def test_unknown_command_is_misuse(facegen: Run) -> None:
    done = facegen("genrate")

    assert done.code == 2
    assert "generate" in done.stderr


def test_generate_names_files_by_index_and_lays_out_a_grid(served: Run, tmp_path: Path) -> None:
    done = served(
        "generate", "--count", "5", "--seed", "7", "--first-index", "98", "--out", "faces/a",
        "--grid", "grids/faces.png",
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert "5 faces in faces/a/ and grids/faces.png" in done.stdout
    files = sorted((tmp_path / "faces/a").iterdir())
    assert [file.name for file in files] == [f"{index:08}.png" for index in range(98, 103)]
    with PillowImage.open(tmp_path / "grids/faces.png") as grid, PillowImage.open(files[0]) as face:
        assert grid.size == (3 * 66 + 2, 2 * 66 + 2)
        assert grid.crop((2, 2, 66, 66)).tobytes() == face.tobytes()
        assert "digitalsourcetype/trainedAlgorithmicMedia" in grid.info["XML:com.adobe.xmp"]


def test_generate_gives_json_to_machines(served: Run, tmp_path: Path) -> None:
    done = served("generate", "--count", "2", "--format", "webp", "--family", "tiny-ae", "--json")

    result = json.loads(done.stdout)
    assert result["family"] == "tiny-ae"
    assert result["seed"] >= 0
    assert result["files"] == ["faces/00000000.webp", "faces/00000001.webp"]
    assert all((tmp_path / file).stat().st_size for file in result["files"])
    assert done.stderr == ""


def test_grid_alone_leaves_no_folder(served: Run, tmp_path: Path) -> None:
    assert served("generate", "--count", "4", "--grid", "faces.png").code == 0

    assert [path.name for path in tmp_path.iterdir()] == ["faces.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "--count", "0"),
        ("generate", "--grid", "faces.jpg"),
        ("generate", "--grid", "faces.png", "--count", "5000"),
        ("generate", "--format", "gif"),
        ("reconstruct",),
        ("reconstruct", "photo.jpg", "--square", "1,2"),
        ("reconstruct", "photo.jpg", "--dataset-crop", "--center-fraction", "0.5"),
        ("interpolate",),
        ("interpolate", "photo.jpg"),
        ("interpolate", "photo.jpg", "photo.jpg", "--seeds", "1,2"),
        ("interpolate", "--seeds", "one,two"),
    ],
)
def test_misuse_ends_with_2_before_any_call(facegen: Run, arguments: tuple[str, ...]) -> None:
    done = facegen(*arguments)

    assert done.code == 2
    assert "Error" in done.stderr


def test_errors_of_the_server_are_one_line_on_stderr(served: Run) -> None:
    done = served("models", "no-such-family")

    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "no-such-family" in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_server_is_an_error_that_names_it(facegen: Run) -> None:
    done = facegen("models", "--server", "127.0.0.1:1", "--timeout-s", "1")

    assert done.code == 1
    assert done.stderr.startswith("error: no answer from 127.0.0.1:1")


def test_one_bad_photo_does_not_stop_the_others(served: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("not a picture")

    done = served(
        "reconstruct", "missing.jpg", "bad.jpg", photo, "--out", "r", "--side-by-side", "s.png"
    )

    assert done.code == 1
    assert "error: missing.jpg: No such file" in done.stderr
    assert "error: bad.jpg: " in done.stderr
    assert [file.name for file in (tmp_path / "r").iterdir()] == ["photo-reconstruction.png"]
    with PillowImage.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (2 * 66 + 2, 66 + 2)


def test_photos_of_one_name_get_files_of_their_own(
    served: Run, photo: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "twin" / photo.name
    twin.parent.mkdir()
    twin.write_bytes(photo.read_bytes())

    done = served("reconstruct", photo, twin, "--square", "0,0,50", "--json")

    result = json.loads(done.stdout)
    assert done.code == 0
    assert result["files"] == {
        str(photo): "reconstructions/photo-reconstruction.png",
        str(twin): "reconstructions/photo-2-reconstruction.png",
    }
    assert result["errors"] == {}


def test_path_between_photos_and_between_seeds(served: Run, photo: Path, tmp_path: Path) -> None:
    between_photos = served("interpolate", photo, photo, "--count", "3", "--linear")
    between_seeds = served("interpolate", "--seeds", "1,2", "--strip", "strip.png", "--json")

    assert between_photos.code == between_seeds.code == 0
    assert sorted(file.name for file in (tmp_path / "path").iterdir()) == [
        "0000.png",
        "0001.png",
        "0002.png",
    ]
    assert json.loads(between_seeds.stdout)["interpolation"] == "spherical"
    with PillowImage.open(tmp_path / "strip.png") as strip:
        assert strip.size == (9 * 66 + 2, 66 + 2)


def test_models_are_a_table_for_people_and_json_for_machines(served: Run) -> None:
    table = served("models").stdout
    machine = json.loads(served("models", "--json").stdout)
    one = json.loads(served("models", "tiny-vae", "--json").stdout)

    assert "tiny-ae" in table
    assert "64 x 64 RGB" in table
    assert [model["family"] for model in machine] == ["tiny-ae", "tiny-vae"]
    assert one == machine[1]
    assert "tiny-vae" in served("models", "tiny-vae").stdout


def test_health_tells_by_its_exit_code(served: Run, server_address: str) -> None:
    assert served("health").stdout == f"{server_address}: serving\n"
    assert served("health", "--wait", "--service", "facegen.v1.FaceService").code == 0
    assert served("health", "--service", "no.Service").code == 1
    assert served("health", "--server", "127.0.0.1:1").code == 1
    assert json.loads(served("health", "--json").stdout)["status"] == "serving"


def test_folder_that_cannot_be_made_is_an_error(served: Run, tmp_path: Path) -> None:
    (tmp_path / "faces").touch()

    done = served("generate", "--count", "1")

    assert done.code == 1
    assert done.stderr == "error: faces: cannot make the folder: File exists\n"


def test_interrupt_ends_with_130_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*MAIN, "health", "--wait", "--timeout-s", "60", "--server", server],
            stderr=subprocess.PIPE,
            # A shell starts its background jobs, and so a test run in one, with SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        connection, _ = silent.accept()
        with connection:
            connection.recv(24)  # HTTP/2's preface: from here on the command waits
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate()

    assert process.returncode == 130, rest
    assert b"Traceback" not in rest


def test_closed_pipe_ends_quietly(server_address: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [*MAIN, "models", "--json", "--server", server_address],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)

    assert done.returncode == 1
    assert done.stderr == b""
