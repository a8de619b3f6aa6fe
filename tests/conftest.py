"""What tests of several parts share: tiny models, made for real once a session; certificates.

Heavy imports stand inside the functions, so that tests of the thin client need no PyTorch.
"""

import fcntl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

TINY_FAMILIES: Mapping[str, str] = {"vae": "tiny-vae", "autoencoder": "tiny-ae"}
"""The families of `tiny_repository` by kind: 64 x 64 RGB, latent 8, 8-8-16-16-16 channels."""

_PICTURE_COUNT = 64
_EPOCHS = 2


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

        options = ExportOptions(encoder_storage="float32", measurement=Measurement(repetitions=0))
        for kind, family in TINY_FAMILIES.items():
            export_run(tiny_runs[kind], folder, family=family, options=options)

    return _built_once(tmp_path_factory, "tiny-repository", build)


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
