"""How soon the studio's page shows something, and can be used, in a real Chromium.

Serves the bundled models and a studio for them, and opens the page again and again: with an empty
cache, and then with a full one. First paint is Chromium's first-contentful-paint; the page can be
used when its buttons are there and listen.

    python -m benchmarks.studio
"""

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

_FACEGEN = [sys.executable, "-c", "from facegen.client.cli import main; main()"]
_BROWSER_FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
_REST_MS = 3000
# Runs in the page before anything else: the moment when it listens to its visitor.
_WATCH = """new MutationObserver((_, observer) => {
  if (!document.body?.classList.contains('ready')) return;
  observer.disconnect();
  window.usable_ms = performance.now();
}).observe(document, { childList: true, subtree: true, attributeFilter: ['class'] });"""
_MEASURE = """() => {
  const [paint] = performance.getEntriesByName('first-contentful-paint');
  const files = performance.getEntriesByType('resource');
  const bytes = files.reduce((sum, it) => sum + it.transferSize, 0);
  return [paint.startTime, window.usable_ms, bytes / 1024, files.length];
}"""


@dataclass(frozen=True, slots=True)
class Visit:
    """One opening of the page: moments since it was asked for, and what it took."""

    paint_ms: float
    usable_ms: float
    kib: float
    file_count: int


@contextmanager
def _studio() -> Iterator[str]:
    """Run a server of the bundled models and a studio for it; give the page's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    serve = [*_FACEGEN, "serve", "--engine", "onnx:models", "--address", address]
    studio = [*_FACEGEN, "studio", "--server", address, "--address", "127.0.0.1:0"]
    with (
        subprocess.Popen(serve, stderr=subprocess.DEVNULL) as server,
        subprocess.Popen(studio, stdout=subprocess.PIPE, text=True) as page,
    ):
        try:
            subprocess.run(
                [*_FACEGEN, "health", "--server", address, "--wait", "--timeout-s", "60"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            assert page.stdout is not None
            yield page.stdout.readline().partition(": ")[2].strip()
        finally:
            page.terminate()
            server.terminate()


def _visit(page: Page, url: str) -> Visit:
    page.goto(url)
    page.wait_for_function("window.usable_ms")
    page.wait_for_timeout(_REST_MS)  # what is not needed at once comes later, and is then kept
    return Visit(*page.evaluate(_MEASURE))


def measure(url: str, *, rounds: int) -> dict[str, list[Visit]]:
    """Open the page with an empty cache and with a full one, by turns."""
    visits: dict[str, list[Visit]] = {"empty": [], "full": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=_BROWSER_FLAGS
        )
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            context.add_init_script(_WATCH)
            page = context.new_page()
            for cache in visits:
                visits[cache].append(_visit(page, url))
            context.close()
        browser.close()
    return visits


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often the page is opened anew")
    options = parser.parse_args()
    with _studio() as url:
        measure(url, rounds=1)  # the studio's own first answer is slower
        visits = measure(url, rounds=options.rounds)
    table = Table("cache", "first paint, ms", "slowest", "usable, ms", "slowest", "KiB", "files")
    for cache, rows in visits.items():
        paints = [row.paint_ms for row in rows]
        usables = [row.usable_ms for row in rows]
        table.add_row(
            cache,
            *(f"{it:.0f}" for it in (statistics.median(paints), max(paints))),
            *(f"{it:.0f}" for it in (statistics.median(usables), max(usables))),
            f"{statistics.median(row.kib for row in rows):.0f}",
            str(rows[0].file_count),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
