"""The documentation site: it builds, everything is in it, and it asks nobody else."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

import facegen.client
from facegen.client.cli import app
from facegen.v1 import face_service_pb2, mesh_service_pb2, model_service_pb2
from tests.docs.code_blocks import ROOT

_INDEXED_MS = 120_000  # a browser that shares its cores builds the index for a while
_PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_every_page_of_the_documents_is_in_the_navigation(site: Path) -> None:
    navigation = _html(site, "tutorial").partition("<article")[0]

    links = {link.strip("./") for link in re.findall(r'href="([^"]+)"', navigation)}

    pages = {page.with_suffix("").as_posix().removesuffix("index").strip("/") for page in _PAGES}
    assert len(pages) > 20
    assert pages - links - {"tutorial"} == set()


def test_reference_has_every_command(site: Path) -> None:
    group: Any = typer.main.get_command(app)
    context = type(group).context_class(group, info_name="facegen")
    names = group.list_commands(context)

    assert len(names) > 15
    for name in names:
        _, command, _ = group.resolve_command(context, [name])
        html = _html(site, f"reference/commands/{name}")
        for words in [(), *((it,) for it in getattr(command, "commands", {}))]:
            assert f'id="{"-".join(("facegen", name, *words))}"' in html
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert getattr(parameter, "hidden", False) or option in html, (name, option)


@pytest.mark.parametrize("name", facegen.client.__all__)
def test_reference_has_every_public_name_of_the_client(site: Path, name: str) -> None:
    assert f'id="facegen.client.{name}"' in _html(site, "reference/python/client")


@pytest.mark.parametrize("method", ["generate", "transfer", "models", "generate_meshes"])
def test_reference_of_the_clients_has_what_they_inherit(site: Path, method: str) -> None:
    html = _html(site, "reference/python/client")

    assert f'id="facegen.client.Client.{method}"' in html
    assert f'id="facegen.client.AsyncClient.{method}"' in html


@pytest.mark.parametrize("proto", [face_service_pb2, mesh_service_pb2, model_service_pb2])
def test_reference_has_every_method_message_and_field(site: Path, proto: Any) -> None:
    stem = Path(proto.DESCRIPTOR.name).stem
    html = _html(site, f"reference/protos/{stem}")

    for service in proto.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f"<td><code>{method.name}</code></td>" in html
    for message in proto.DESCRIPTOR.message_types_by_name.values():
        assert f'id="{message.name.lower()}"' in html
        for field in message.fields:
            assert f"<td><code>{field.name}</code></td>" in html


@pytest.mark.parametrize("folder", ["design", "models"])
def test_every_decision_and_card_is_a_page(site: Path, folder: str) -> None:
    source = ROOT / ("docs/design" if folder == "design" else "models")
    pages = [path for path in source.glob("*.md") if path.stem != "README"]

    assert len(pages) > 5
    assert [it.stem for it in pages if not (site / folder / it.stem / "index.html").exists()] == []


def test_links_and_pictures_lead_to_what_is_in_the_site(site: Path) -> None:
    missing = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text("utf-8")):
            if ":" not in link and not link.startswith("/"):
                target = (page.parent / link).resolve()
                if not target.exists():
                    missing.append((page.relative_to(site).as_posix(), link))

    assert missing == []


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r'<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"'
    )

    found = [
        (page.name, match)
        for page in site.rglob("*.html")
        for match in loads.findall(page.read_text("utf-8"))
    ]

    assert found == []


def test_search_finds_in_a_browser_that_reaches_nobody_else(url: str, browser: Any) -> None:
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))

    page.goto(url)
    search = page.get_by_role("textbox", name="Search").first
    search.click()
    search.press_sequentially("temperature", delay=50)
    found = page.locator(".md-search-result__link").first
    found.wait_for(timeout=_INDEXED_MS)

    assert found.get_attribute("href")
    assert [it for it in asked if not it.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tutorial/",
        "serving/",
        "benchmarks/",
        "models/celeba-vae/",
        "reference/commands/serve/",
        "reference/protos/face_service/",
        "reference/python/client/",
    ],
)
def test_page_fits_a_telephone(url: str, browser: Any, path: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})

    page.goto(url + path)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def _html(site: Path, page: str) -> str:
    return (site / page / "index.html").read_text("utf-8")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its parent's name
        """Write no line for a request."""
