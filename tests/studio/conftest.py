"""A real server of the bundled models, a real studio, and a real browser to visit it with."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.studio.running import ROOT, RunningStudio, run_server, run_studio

RunStudio = Callable[..., AbstractContextManager[RunningStudio]]

_CHROMIUM = shutil.which("chromium")
_BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Draws meshes without a GPU.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


@pytest.fixture(scope="session")
def free_address() -> Callable[[], str]:
    """Find an address that nobody listens on."""

    def find() -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{free.getsockname()[1]}"

    return find


@pytest.fixture(scope="session")
def bundled_server(
    free_address: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server of the bundled models."""
    address = free_address()
    with run_server(ROOT / "models", address, log=tmp_path_factory.mktemp("server") / "log"):
        yield address


@pytest.fixture
def start_studio(tmp_path: Path) -> RunStudio:
    """Run a real `facegen studio` for a server until the block ends."""
    return partial(run_studio, folder=tmp_path)


@pytest.fixture(scope="session")
def studio(
    bundled_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStudio]:
    """A studio for the bundled models."""
    with run_studio(bundled_server, folder=tmp_path_factory.mktemp("studio")) as running:
        yield running


# While Playwright runs, its event loop does in this process: the tests of one module share it, and
# those that come after have none.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    if _CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_BROWSER_FLAGS)
        yield browser
        browser.close()
