"""What tests of several parts share: tiny models, made for real once a session; certificates.

Heavy imports stand inside the functions, so that tests of the thin client need no PyTorch.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TINY_FAMILIES: Mapping[str, str] = {"vae": "tiny-vae", "autoencoder": "tiny-ae"}
"""The families of `tiny_repository` by kind: 64 x 64 RGB, latent 8, 8-8-16-16-16 channels."""

TINY_EXPRESSIONS = "tiny-expressions"
"""The family of `tiny_expression_repository`: 48 x 48 grey, latent 8, five decoders."""

TINY_CLASSIFIERS: Mapping[str, str] = {"guide": "plain", "judge": "separable"}
"""The classifiers of `tiny_classifier_runs` by name, and their architectures."""

_PICTURE_COUNT = 64
_EPOCHS = 2
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
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The run folders of a VAE and an AE by kind, trained on generated pictures."""

    def build(folder: Path) -> None:
        _draw_pictures(folder / "pictures")
        for kind, family in TINY_FAMILIES.items():
            _train(folder / "pictures", folder / family, kind=kind)

    folder = _built_once(tmp_path_factory, "tiny-runs", build)
    return {kind: folder / family for kind, family in TINY_FAMILIES.items()}


@pytest.fixture(scope="session")
def tiny_repository(
    tmp_path_factory: pytest.TempPathFactory, tiny_runs: Mapping[str, Path]
) -> Path:
    """A model repository with the families `tiny-vae` and `tiny-ae`: read it, do not change it."""

    def build(folder: Path) -> None:
        from facegen.export import ExportOptions, Measurement, export_run

        options = ExportOptions(storage="float32", measurement=Measurement(repetitions=0))
        for kind, family in TINY_FAMILIES.items():
            export_run(tiny_runs[kind], folder, family=family, options=options)

    return _built_once(tmp_path_factory, "tiny-repository", build)


@pytest.fixture(scope="session")
def tiny_fer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a FER2013 of 12 training and 4 validation faces for each expression.

    They are one person's, of the public domain, with drawn mouths and brows: read it, do not change
    it.
    """
    return _built_once(tmp_path_factory, "tiny-fer", lambda folder: draw_fer(folder / "ferplus"))


@pytest.fixture(scope="session")
def tiny_classifier_runs(
    tmp_path_factory: pytest.TempPathFactory, tiny_fer: Path
) -> Mapping[str, Path]:
    """The run folders of two classifiers by name, trained on `tiny_fer` for a moment."""

    def build(folder: Path) -> None:
        for name, architecture in TINY_CLASSIFIERS.items():
            settings = [f'model.architecture="{architecture}"', "model.width=4", "epochs=2"]
            _train_preset("fer-guide-a", settings, folder / name, data=tiny_fer)

    folder = _built_once(tmp_path_factory, "tiny-classifiers", build)
    return {name: folder / name for name in TINY_CLASSIFIERS}


@pytest.fixture(scope="session")
def tiny_expression_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_fer: Path,
    tiny_classifier_runs: Mapping[str, Path],
) -> Path:
    """The run folder of an expression model with five decoders, trained on `tiny_fer` for a moment.

    Latent 8, 6 channels of features, guided by one of `tiny_classifier_runs`.
    """

    def build(folder: Path) -> None:
        settings = [
            f'guides=["{tiny_classifier_runs["guide"]}"]',
            "epochs=2",
            "steps_per_epoch=3",
            "unguided_steps=3",
            "picture_count=4",
            "model.expressions=['neutral', 'happiness', 'surprise', 'sadness', 'anger']",
            "model.latent_size=8",
            "model.widths=[6, 8, 8, 12, 12]",
            "model.feature_channels=6",
            "prior.components=2",
        ]
        _train_preset("fer-expressions", settings, folder / "run", data=tiny_fer)

    return _built_once(tmp_path_factory, "tiny-expressions", build) / "run"


@pytest.fixture(scope="session")
def tiny_aligner_run(tmp_path_factory: pytest.TempPathFactory, tiny_fer: Path) -> Path:
    """The run folder of an aligner, trained on `tiny_fer` until it finds its person's points."""

    def build(folder: Path) -> None:
        settings = [
            'data.readers=["fer"]',
            "epochs=6",
            "batch_size=4",
            "ema_decay=0.9",
            "model.widths=[6, 8, 12, 16]",
            "optimizer.learning_rate=5e-3",
        ]
        _train_preset("fer-aligner", settings, folder / "run", data=tiny_fer)

    return _built_once(tmp_path_factory, "tiny-aligner", build) / "run"


@pytest.fixture(scope="session")
def tiny_expression_repository(
    tmp_path_factory: pytest.TempPathFactory, tiny_expression_run: Path, tiny_aligner_run: Path
) -> Path:
    """A model repository with the family `tiny-expressions`: read it, do not change it."""

    def build(folder: Path) -> None:
        from facegen.export import ExportOptions, Measurement, export_run

        options = ExportOptions(
            storage="float32",
            aligner=tiny_aligner_run,
            picture_count=40,
            measurement=Measurement(repetitions=0),
        )
        export_run(tiny_expression_run, folder, family=TINY_EXPRESSIONS, options=options)

    return _built_once(tmp_path_factory, "tiny-expression-repository", build)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of its own, which issues certificates for loopback.

    Attributes:
        folder: Where the files go, all of them PEM.
        certificate: The authority's own certificate.
    """

    folder: Path
    certificate: Path
    _signer: Any
    _name: Any

    def issue(
        self, name: str = "localhost", *, days: int = 30, file: str = ""
    ) -> tuple[Path, Path]:
        """Write a certificate and its key to `file`.crt and .key; negative days: it has expired."""
        key, certificate = _certified(name, self._name, signer=self._signer, days=days)
        return _write_pem(self.folder, file or name, certificate, key)


@pytest.fixture
def new_authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Authority]:
    """Make a new certificate authority."""

    def make() -> Authority:
        folder = tmp_path_factory.mktemp("authority")
        key, certificate = _certified("test authority", None, signer=None, days=30)
        path, _ = _write_pem(folder, "ca", certificate, key)
        return Authority(folder, path, key, certificate.subject)

    return make


@pytest.fixture
def authority(new_authority: Callable[[], Authority]) -> Authority:
    """A certificate authority."""
    return new_authority()


def _certified(name: str, issuer: Any, *, signer: Any, days: int) -> tuple[Any, Any]:
    """Make a key and its certificate; without a signer its own, of an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return key, builder.sign(signer or key, hashes.SHA256())


def _write_pem(folder: Path, file: str, certificate: Any, key: Any) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization

    certificate_path, key_path = folder / f"{file}.crt", folder / f"{file}.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path


def _built_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]
) -> Path:
    """Build a folder in the first of pytest-xdist's workers to need it; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-"):
        base = base.parent
    folder = base / name
    done = folder / ".built"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            build(folder)
            done.touch()
    return folder


def _draw_pictures(folder: Path) -> None:
    """Draw faces that differ in colours, place and size."""
    import numpy as np
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(_PICTURE_COUNT):
        background, skin, eyes = (
            tuple(int(v) for v in random.integers(0, 256, 3)) for _ in range(3)
        )
        left, top = (int(v) for v in random.integers(4, 16, 2))
        picture = Image.new("RGB", (64, 64), background)
        draw = ImageDraw.Draw(picture)
        draw.ellipse((left, top, left + 44, top + 46), fill=skin)
        for eye in (left + 10, left + 28):
            draw.ellipse((eye, top + 14, eye + 6, top + 20), fill=eyes)
        picture.save(folder / f"{index:03}.png")


def _train(pictures: Path, folder: Path, *, kind: str) -> None:
    from facegen.training import load_config, train_run

    config = load_config(
        "celeba-vae" if kind == "vae" else "celeba-ae",
        [
            f'data.root="{pictures}"',
            'data.reader="folder"',
            f"epochs={_EPOCHS}",
            "batch_size=8",
            "picture_count=4",
            "model.latent_size=8",
            "model.widths=[8, 8, 16, 16, 16]",
            "optimizer.warmup_steps=1",
            "prior.components=3",
        ],
    )
    train_run(config, folder, device="cpu", threads=1, progress=False)


def draw_fer(root: Path, *, train: int = 12, validation: int = 4) -> None:
    """Write FER2013's folders and FER+'s votes, all for one expression of each face.

    Args:
        root: The data set's folder.
        train: Training faces of each of the five expressions.
        validation: Validation faces likewise.
    """
    import csv

    from facegen.training.data.fer import FER_PLUS_NAMES

    root.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for folder, count in (("FER2013Train", train), ("FER2013Valid", validation)):
        (root / folder).mkdir(exist_ok=True)
        for _ in range(count):
            for expression in FER_PLUS_NAMES[:5]:
                name = f"fer{len(rows):07d}.png"
                draw_expression(expression, seed=len(rows)).save(root / folder / name)
                votes = {n: 10 if n == expression else 0 for n in FER_PLUS_NAMES}
                rows.append({"Usage": folder, "Image name": name, **votes})
    with (root / "fer2013new.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["Usage", "Image name", *FER_PLUS_NAMES])
        writer.writeheader()
        writer.writerows(rows)


def draw_expression(expression: str, *, seed: int, size_px: int = 48) -> Any:
    """Draw a grey face that a detector finds, cropped and lit by the seed."""
    import numpy as np
    from PIL import Image, ImageDraw
    from skimage.data import astronaut

    picture = Image.fromarray(astronaut()).convert("L")  # type: ignore[no-untyped-call]  # skimage's
    draw = ImageDraw.Draw(picture)
    mouths = {"happiness": (204, 146, 246, 156), "surprise": (214, 142, 236, 166)}
    mouths |= {"sadness": (210, 152, 240, 157)}
    if expression in mouths:
        draw.ellipse(mouths[expression], fill=250 if expression == "happiness" else 10)
    if expression == "anger":
        for left in (194, 226):
            draw.line((left, 103, left + 24, 103), fill=0, width=6)
    random = np.random.default_rng(seed)
    half = 87 * random.uniform(1.35, 1.7) / 2
    x, y = 222 + random.uniform(-5, 5), 122 + random.uniform(-6, 4)
    picture = picture.resize(
        (size_px, size_px), Image.Resampling.BICUBIC, box=(x - half, y - half, x + half, y + half)
    )
    pixels = np.asarray(picture, dtype=np.float64)
    pixels = (pixels - 128) * random.uniform(0.8, 1.2) + 128 + random.uniform(-20, 20)
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _train_preset(preset: str, settings: list[str], folder: Path, *, data: Path) -> None:
    from facegen.training import load_recipe, train_run

    settings = [f'data.root="{data}"', "batch_size=10", "optimizer.warmup_steps=1", *settings]
    train_run(load_recipe(preset, settings), folder, device="cpu", threads=1)


# While Playwright runs, its event loop does in this process: the tests of one module share it, and
# those that come after have none.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_BROWSER_FLAGS)
        yield browser
        browser.close()
