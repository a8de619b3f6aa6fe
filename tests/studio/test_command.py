import signal
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Authority
from tests.studio.conftest import RunStudio
from tests.studio.running import RunningStudio, run_command

_NOBODY = "127.0.0.1:1"


def test_help_shows_each_flag_with_its_variable(tmp_path: Path) -> None:
    told = run_command("studio", "--help", folder=tmp_path, COLUMNS="200")

    assert told.returncode == 0
    for flag in ("address", "page_certificate", "page_key", "shown_server", "keep_s", "check"):
        assert f"--{flag.replace('_', '-')}" in told.stdout
        assert f"FACEGEN_STUDIO_{flag.upper()}" in told.stdout
    assert "FACEGEN_SERVER" in told.stdout


def test_taken_port_is_told_and_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        told = run_command("studio", "--address", address, folder=tmp_path)

    assert told.returncode == 1
    assert f"cannot listen at {address}: Address already in use" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("address", ["7860", "localhost:", "localhost:http", "localhost:70000"])
def test_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    told = run_command("studio", "--address", address, folder=tmp_path)

    assert told.returncode == 1
    assert f"{address!r} is not HOST:PORT" in told.stderr


def test_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    told = run_command("studio", "--page-certificate", "a.crt", folder=tmp_path)

    assert told.returncode == 1
    assert "give both --page-certificate and --page-key" in told.stderr


def test_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_text("nothing")
    flags = ["--page-certificate", "a.crt", "--page-key", "missing.key"]

    told = run_command("studio", "--address", "127.0.0.1:0", *flags, folder=tmp_path)

    assert told.returncode == 1
    assert "give a certificate and its private key in PEM" in told.stderr


def test_check_fails_where_no_studio_answers(
    free_address: Callable[[], str], tmp_path: Path
) -> None:
    told = run_command("studio", "--check", folder=tmp_path, FACEGEN_STUDIO_ADDRESS=free_address())

    assert told.returncode == 1
    assert "no studio answers at" in told.stderr


def test_https_page_answers_its_check_and_ends_at_sigterm_with_its_files_deleted(
    start_studio: RunStudio, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(file="page")
    flags = ["--page-certificate", str(certificate), "--page-key", str(key)]
    with start_studio(_NOBODY, *flags) as running:
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        with urllib.request.urlopen(running.url, context=trusting) as page:
            body = page.read().decode()
        address = running.url.removeprefix("https://").rstrip("/")
        checked = run_command("studio", "--check", "--address", address, *flags, folder=tmp_path)
        began_with = list(running.folder.iterdir())

        running.process.send_signal(signal.SIGTERM)
        code = running.process.wait(timeout=30)

        assert "facegen studio" in body
        assert checked.returncode == 0, checked.stderr
        assert [it.name.startswith("facegen-studio-") for it in began_with] == [True]
        assert code == 0
        assert not list(running.folder.iterdir())


@pytest.mark.parametrize("path", ["/etc/passwd", "README.md", "models/README.md"])
def test_no_file_of_the_machine_is_served(studio: RunningStudio, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{studio.url}gradio_api/file={path}")

    assert refused.value.code in (403, 404)
    refused.value.close()
