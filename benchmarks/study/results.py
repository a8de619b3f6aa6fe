"""What is measured of a row, and the table and the picture of all rows."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facegen.training.callbacks.pictures import picture_grid
from facegen.training.distances import frechet_distance, kernel_distance
from facegen.training.evaluation.fidelity import psnr_db, sharpness, ssim
from facegen.training.features import FeatureNetwork

__all__ = ["Pictures", "Result", "measure", "sheet", "table", "write_result"]

Pixels = NDArray[np.uint8]

_SHOWN = 16
_COLUMNS = (
    ("PSNR, dB", "psnr_db", ".2f"),
    ("SSIM", "ssim", ".3f"),
    ("sharpness", "sharpness", ".2f"),
    ("reconstructions", "frechet_reconstruction", ".1f"),
    ("mixture", "frechet_mixture", ".1f"),
    ("kernel, mixture", "kernel_mixture", ".1f"),
    ("N(0, I)", "frechet_normal", ".1f"),
    ("minutes", "minutes", ".1f"),
    ("epochs", "epochs", ".0f"),
)
_FONT_PX = 13
_LINE_PX = 20


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a row's model made.

    Attributes:
        reconstruction: Of the validation pictures, (N, H, W, C) uint8.
        samples: By prior, as many each.
    """

    reconstruction: Pixels
    samples: Mapping[str, Pixels]


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table.

    Attributes:
        name: The row's.
        title: For people.
        minutes: Of training that were spent.
        epochs: Passes over the training pictures.
        threads: CPU threads.
        metrics: Numbers by name.
    """

    name: str
    title: str
    minutes: float
    epochs: float
    threads: int
    metrics: Mapping[str, float]


def measure(real: Pixels, made: Pictures) -> dict[str, float]:
    """Measure a row: names as in metrics.json.

    Args:
        real: Validation pictures, (N, H, W, C) uint8.
        made: The model's, as many each.
    """
    network = FeatureNetwork()
    reference = network.of_images(real)
    rebuilt = made.reconstruction
    found = {
        "psnr_db": float(psnr_db(real, rebuilt).mean()),
        "ssim": ssim(real, rebuilt),
        "sharpness": sharpness(real, rebuilt),
    }
    for name, fake in {"reconstruction": rebuilt, **made.samples}.items():
        features = network.of_images(fake)
        found[f"frechet_{name}"] = frechet_distance(reference, features)
        found[f"kernel_{name}"] = kernel_distance(reference, features)
    return found


def write_result(result: Result, made: Pictures, folder: Path) -> None:
    """Write a row's numbers and a strip of its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=2, ensure_ascii=False) + "\n"
    (folder / f"{result.name}.json").write_text(text, "utf-8")
    best = made.samples.get("mixture", next(iter(made.samples.values())))
    Image.fromarray(picture_grid(best[:_SHOWN], _SHOWN)).save(folder / f"{result.name}.png")


def table(folder: Path) -> str:
    """The rows that were measured so far, best samples first, as Markdown."""
    lines = [
        "| | " + " | ".join(title for title, _, _ in _COLUMNS) + " |",
        "| --- |" + " --- |" * len(_COLUMNS),
    ]
    for row in _rows(folder):
        values = {**row["metrics"], "minutes": row["minutes"], "epochs": row["epochs"]}
        cells = [format(values[key], form) if key in values else "–" for _, key, form in _COLUMNS]
        lines.append(f"| {row['title']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sheet(folder: Path) -> Image.Image:
    """The same rows' samples below each other, with their titles and distances."""
    rows = _rows(folder)
    strips = [Image.open(folder / f"{row['name']}.png") for row in rows]
    width, height = strips[0].size
    font = ImageFont.load_default(_FONT_PX)
    page = Image.new("RGB", (width, len(rows) * (height + _LINE_PX)), "white")
    draw = ImageDraw.Draw(page)
    for index, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        top = index * (height + _LINE_PX)
        distance = row["metrics"]["frechet_mixture"]
        draw.text((2, top + 3), f"{row['title']}: {distance:.1f}", fill="black", font=font)
        page.paste(strip, (0, top + _LINE_PX))
    return page


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))
    ]
    return sorted(rows, key=lambda row: float(row["metrics"]["frechet_mixture"]))
