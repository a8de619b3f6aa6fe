"""Tiny data sets of real JPEG and PNG files, and one run trained on them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def draw_face(index: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """A disc with two eyes on a ground, all colours and places from the index."""
    random = np.random.default_rng(index)
    rows, columns = np.mgrid[:height_px, :width_px]
    picture = np.empty((height_px, width_px, 3), np.uint8)
    picture[:] = random.integers(0, 255, 3)
    x, y = width_px * random.uniform(0.4, 0.6), height_px * random.uniform(0.4, 0.6)
    picture[(rows - y) ** 2 + (columns - x) ** 2 < (width_px / 3) ** 2] = random.integers(0, 255, 3)
    for side in (-1, 1):
        eye = (rows - y + 4) ** 2 + (columns - x - side * width_px / 8) ** 2 < (width_px / 20) ** 2
        picture[eye] = random.integers(0, 255, 3)
    return picture


def write_celeba(root: Path, count: int, *, width_px: int = 89, height_px: int = 109) -> Path:
    folder = root / "img_align_celeba"
    folder.mkdir(parents=True)
    rows = ["Smiling Male"]
    for number in range(1, count + 1):
        name = f"{number:06d}.jpg"
        Image.fromarray(draw_face(number, width_px, height_px)).save(folder / name, quality=95)
        rows.append(f"{name} {1 if number % 2 else -1:2d} -1")
    (root / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n", "utf-8")
    return root


@pytest.fixture(scope="session")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a half-size CelebA of 36 pictures, 32 to train on."""
    root = tmp_path_factory.mktemp("data")
    write_celeba(root / "celeba", 36)
    return root
