"""Visits with a real browser to a studio of the bundled models."""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # ships no py.typed
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Download, Locator, Page, Request, expect

from facegen.client import Animation, Client, DrawnFace, ExpressionTarget, FaceCrop
from tests.studio.running import PHOTO, RunningStudio, run_python

_ANSWER_MS = 60_000
_TABS = ("Selfie", "Generate", "Edit", "Interpolate", "Mesh")
_EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger")
_DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
_PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "color_scheme": "dark",
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


def _open(context: BrowserContext, studio: RunningStudio) -> Page:
    page = context.new_page()
    page.goto(studio.url)
    expect(page.locator("body.ready")).to_be_attached(timeout=_ANSWER_MS)
    return page


@pytest.fixture
def visit(browser: Browser, studio: RunningStudio) -> Iterator[Callable[[], Page]]:
    """Open the page as a new visitor."""
    contexts = []

    def open_page() -> Page:
        context = browser.new_context(**_DESK)
        context.set_default_timeout(_ANSWER_MS)
        contexts.append(context)
        return _open(context, studio)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Callable[[], Page]) -> Page:
    """The page, opened by one visitor."""
    return visit()


@pytest.fixture
def client(bundled_server: str) -> Iterator[Client]:
    with Client(bundled_server, timeout_s=60) as client:
        yield client


def _answered(locator: Locator, count: int) -> None:
    expect(locator).to_have_count(count, timeout=_ANSWER_MS)


def _download(page: Page, name: str) -> Download:
    with page.expect_download(timeout=_ANSWER_MS) as waiting:
        page.get_by_role("button", name=name, exact=True).locator("visible=true").click()
    return waiting.value


def _unpacked(download: Download) -> dict[str, bytes]:
    with zipfile.ZipFile(download.path()) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _shown(page: Page, kind: str) -> Locator:
    """Unfold and find the `command` or the `program` that the open tab shows."""
    code = page.locator(f".{kind} .cm-content").locator("visible=true")
    if not code.count():
        page.get_by_role("button", name="Do this from a shell").locator("visible=true").click()
    return code


def test_selfie_gets_every_expression_and_is_downloaded(
    page: Page, client: Client, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page.locator("#selfie-photo input[type=file]").set_input_files(PHOTO)
    pictures = page.locator(".photos .thumbnail-item img")
    _answered(pictures, len(_EXPRESSIONS))
    first = pictures.first.get_attribute("src")
    strength = page.get_by_role("spinbutton", name="Strength")
    strength.fill("0.5")
    strength.press("Tab")
    expect(pictures.first).not_to_have_attribute("src", first or "", timeout=_ANSWER_MS)
    _answered(pictures, len(_EXPRESSIONS))
    page.screenshot(path=tmp_path_factory.mktemp("screenshots") / "selfie.png", full_page=True)
    program = "\n".join(_shown(page, "program").locator(".cm-line").all_inner_texts())
    downloaded = _unpacked(_download(page, "Download all"))

    targets = [ExpressionTarget(name, 0.5) for name in _EXPRESSIONS]
    [own] = client.transfer([PHOTO], targets, mime_type="image/jpeg").photos
    tmp_path.joinpath(PHOTO.name).write_bytes(PHOTO.read_bytes())
    ran = run_python(program, folder=tmp_path)

    assert downloaded == {f"astronaut-{it.expression}.jpg": it.image.data for it in own.images}
    assert ran.returncode == 0, ran.stderr
    assert downloaded == {name: (tmp_path / name).read_bytes() for name in downloaded}


def test_example_photo_needs_no_photo_of_the_visitor(page: Page) -> None:
    page.get_by_role("button", name="Try the example photo").click()

    captions = page.locator(".photos .caption-label")
    _answered(captions, len(_EXPRESSIONS))
    assert tuple(captions.all_inner_texts()) == _EXPRESSIONS


def test_faces_are_generated_by_keyboard_alone(page: Page, client: Client) -> None:
    def walk_to(role: str, name: str) -> None:
        target = page.get_by_role(role, name=name, exact=True).locator("visible=true")  # type: ignore[arg-type]  # a literal
        for _ in range(40):
            if target.count() and target.evaluate("it => it === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"no way to {name} with the Tab key")

    walk_to("tab", "Generate")
    page.keyboard.press("Enter")
    pictures = page.locator(".faces .thumbnail-item img")
    _answered(pictures, 12)
    walk_to("slider", "range slider for Count")
    focus = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    _answered(pictures, 4)
    walk_to("button", "Download all")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    downloaded = _unpacked(waiting.value)

    own = client.generate(4, seed=7, temperature=1, family="celeba-vae", prior="mixture")
    assert focus == "solid"
    assert downloaded == {f"{face.index:08}.png": face.image.data for face in own.faces}


def test_drawn_face_is_edited(page: Page, client: Client) -> None:
    page.get_by_role("tab", name="Edit").click()
    smiling = page.get_by_role("spinbutton", name="number input for Smiling")
    smiling.fill("1.2")
    smiling.press("Tab")
    expect(_shown(page, "command")).to_contain_text("--more Smiling:1.2", timeout=_ANSWER_MS)
    downloaded = _download(page, "Download the result")

    own = client.edit([DrawnFace(7, prior="mixture")], {"Smiling": 1.2}, family="celeba-vae")
    assert downloaded.suggested_filename == "seed-7-edited.png"
    assert downloaded.path().read_bytes() == own.faces[0].images[0].data


def test_photo_is_edited(page: Page, client: Client) -> None:
    page.get_by_role("tab", name="Edit").click()
    page.get_by_label("A photo").check()
    page.locator("#edit-photo input[type=file]").set_input_files(PHOTO)
    hair = page.get_by_role("spinbutton", name="number input for Black Hair")
    hair.fill("1")
    hair.press("Tab")
    expect(_shown(page, "command")).to_contain_text("--more Black_Hair:1", timeout=_ANSWER_MS)
    downloaded = _download(page, "Download the result")

    own = client.edit(
        [PHOTO], {"Black_Hair": 1}, family="celeba-vae", crop=FaceCrop(), mime_type="image/jpeg"
    )
    assert downloaded.suggested_filename == "astronaut-edited.jpg"
    assert downloaded.path().read_bytes() == own.faces[0].images[0].data


def test_path_is_an_animation(page: Page, client: Client) -> None:
    page.get_by_role("tab", name="Interpolate").click()
    expect(page.locator(".animation img")).to_be_visible(timeout=_ANSWER_MS)
    downloaded = _download(page, "Download the animation").path().read_bytes()

    own = client.interpolate(
        DrawnFace(7, prior="mixture"),
        DrawnFace(8, prior="mixture"),
        count=24,
        family="celeba-vae",
        animation=Animation(60, there_and_back=True),
    )
    assert own.animation is not None
    assert downloaded == own.animation.data
    assert getattr(Image.open(io.BytesIO(downloaded)), "n_frames", 1) == 46


def test_head_turns_and_is_downloaded(page: Page, client: Client) -> None:
    page.get_by_role("tab", name="Mesh").click()
    canvas = page.get_by_role("img", name="The head")
    expect(canvas).to_be_visible(timeout=_ANSWER_MS)
    page.get_by_label("PLY").check()
    expect(_shown(page, "command")).to_contain_text("--format ply", timeout=_ANSWER_MS)
    downloaded = _download(page, "Download the mesh")
    before = canvas.screenshot()
    canvas.hover()
    page.mouse.down()
    page.mouse.move(700, 400, steps=5)
    page.mouse.up()

    own = client.generate_meshes(
        1, seed=11, temperature=1, prior="mixture", family="ict-mesh", mime_type="model/ply"
    )
    assert downloaded.path().read_bytes() == own.meshes[0].mesh.data
    assert canvas.screenshot() != before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no picture", "The file is not a picture, or it is damaged."),
        (None, "No face seen from the front is in the photo."),
    ],
)
def test_photo_that_cannot_be_used_is_told_of_in_a_sentence(
    content: bytes | None, told: str, page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    if content is None:
        Image.new("RGB", (320, 240), "teal").save(path)
    else:
        path.write_bytes(content)
    page.locator("#selfie-photo input[type=file]").set_input_files(path)

    expect(page.get_by_text(told)).to_be_visible(timeout=_ANSWER_MS)

    page.get_by_role("button", name="Try the example photo").click()
    _answered(page.locator(".photos .thumbnail-item img"), len(_EXPRESSIONS))


def test_one_visitors_large_photo_does_not_hold_up_another(
    visit: Callable[[], Page], tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.open(PHOTO).resize((3600, 3600)).save(large, compress_level=1)
    patient, other = visit(), visit()
    other.get_by_role("tab", name="Generate").click()
    faces = other.locator(".faces .thumbnail-item img")
    _answered(faces, 12)
    patient.locator("#selfie-photo input[type=file]").set_input_files(large)
    working = patient.locator(".photos [data-testid=status-tracker]:not(.hide)")
    expect(working).to_be_visible(timeout=_ANSWER_MS)

    count = other.get_by_role("spinbutton", name="number input for Count")
    count.fill("3")
    count.press("Tab")
    _answered(faces, 3)

    waiting = patient.locator(".photos .thumbnail-item img")
    assert waiting.count() == 0
    _answered(waiting, len(_EXPRESSIONS))


@dataclass
class Tour:
    """What was seen on a way through all tabs."""

    hosts: set[str] = field(default_factory=set)
    widths: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=["desk", "phone"])
def tour(
    request: pytest.FixtureRequest,
    browser: Browser,
    studio: RunningStudio,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tour:
    """Walk through all tabs on a desk, light, and on a phone, dark."""
    seen, folder = Tour(), tmp_path_factory.mktemp("screenshots")
    context = browser.new_context(**{"desk": _DESK, "phone": _PHONE}[request.param])
    context.set_default_timeout(_ANSWER_MS)

    def record(sent: Request) -> None:
        if sent.url.startswith("http"):
            seen.hosts.add(urlsplit(sent.url).hostname or "")

    context.on("request", record)
    page = _open(context, studio)
    page.get_by_role("button", name="Try the example photo").click()
    results = {
        "Selfie": ".photos .thumbnail-item img",
        "Generate": ".faces .thumbnail-item img",
        "Edit": ".pair .thumbnail-item img",
        "Interpolate": ".animation img",
        "Mesh": ".clay canvas[aria-label]",
    }
    for tab in _TABS:
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(results[tab]).last).to_be_visible(timeout=_ANSWER_MS)
        _shown(page, "command")
        for folded in page.locator(".label-wrap:not(.open)").locator("visible=true").all():
            folded.click()
        page.screenshot(path=folder / f"{request.param}-{tab}.png", full_page=True)
        seen.widths[tab] = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        for found in Axe().run(page).response["violations"]:
            if found["impact"] in ("serious", "critical"):
                nodes = [node["html"][:200] for node in found["nodes"][:3]]
                seen.findings.append(f"{tab}: {found['id']}: {nodes}")
    context.close()
    return seen


def test_no_request_leaves_this_machine(tour: Tour) -> None:
    assert tour.hosts == {"127.0.0.1"}


def test_nothing_is_wider_than_the_window(tour: Tour) -> None:
    assert tour.widths == dict.fromkeys(_TABS, 0)


def test_no_tab_has_serious_findings_of_accessibility(tour: Tour) -> None:
    assert tour.findings == []
