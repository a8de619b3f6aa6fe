"""A studio whose server comes and goes, and whose visitors' files do not stay."""

import os
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.serving.family_graphs import write_plain_family
from tests.studio.conftest import RunStudio
from tests.studio.running import run_server, wait_until

_ANSWER_MS = 60_000
_KEEP_S = 6


def test_studio_waits_for_its_server_and_bears_its_loss(
    browser: Browser, start_studio: RunStudio, free_address: Callable[[], str], tmp_path: Path
) -> None:
    address = free_address()
    repository = write_plain_family(tmp_path / "models")
    with start_studio(address, "--keep-s", str(_KEEP_S), "--timeout-s", "5") as running:
        page = browser.new_page()
        page.set_default_timeout(_ANSWER_MS)
        page.goto(running.url)
        alarm = page.get_by_role("alert")
        expect(alarm).to_contain_text(f"No answer from {address}", timeout=_ANSWER_MS)

        with run_server(repository, address, log=tmp_path / "first.log"):
            expect(alarm).to_be_hidden(timeout=_ANSWER_MS)
            expect(page.get_by_role("tab", name="Selfie")).to_be_hidden()
            expect(page.get_by_role("tab", name="Mesh")).to_be_hidden()
            faces = page.locator(".faces .thumbnail-item img")
            draw = page.get_by_role("button", name="Generate", exact=True)
            draw.click()
            expect(faces).to_have_count(12, timeout=_ANSWER_MS)
            assert _files(running.folder) > 12
        draw.click()
        expect(page.get_by_text("is the server running there?").last).to_be_visible(
            timeout=_ANSWER_MS
        )

        with run_server(repository, address, log=tmp_path / "second.log"):
            page.get_by_role("button", name="New seed").locator("visible=true").click()
            expect(faces).to_have_count(12, timeout=_ANSWER_MS)
            draw.click()
            expect(faces).to_have_count(12, timeout=_ANSWER_MS)
        wait_until(lambda: _files(running.folder) == 0, timeout_s=6 * _KEEP_S)


def _files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))
