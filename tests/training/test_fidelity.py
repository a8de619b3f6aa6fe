import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from facegen.training.evaluation.fidelity import laplacian_variance, psnr_db, sharpness, ssim, weave


def noise(count: int, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (count, 32, 32, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr_of_one_level_is_the_known_number() -> None:
    real = np.full((2, 8, 8, 3), 100, np.uint8)

    assert psnr_db(real, real + np.uint8(1)) == pytest.approx([20 * np.log10(255)] * 2)
    assert psnr_db(real, real) == pytest.approx([100.0, 100.0])


def test_ssim_of_a_set_and_itself_is_one_and_of_noise_about_zero() -> None:
    assert ssim(noise(3), noise(3)) == pytest.approx(1.0)
    assert abs(ssim(noise(3), noise(3, seed=1))) < 0.05


def test_laplacian_variance_of_a_single_bright_pixel_is_that_by_hand() -> None:
    picture = np.zeros((1, 9, 9, 1), np.uint8)
    picture[0, 4, 4] = 10

    # −40 at the pixel, 10 at its four neighbours: sum 0, squares 1600 + 400 over 81 values.
    assert laplacian_variance(picture) == pytest.approx([2000 / 81])


def test_grey_and_rgb_of_one_picture_are_as_sharp() -> None:
    grey = noise(2, channels=1)

    assert laplacian_variance(grey) == pytest.approx(
        laplacian_variance(grey.repeat(3, 3)), rel=1e-3
    )


def test_blurred_pictures_have_a_fraction_of_the_sharpness() -> None:
    real = noise(4)
    blurred = gaussian_filter(real.astype(float), (0, 1, 1, 0)).astype(np.uint8)

    assert sharpness(real, real) == pytest.approx(1.0)
    assert sharpness(real, blurred) < 0.05


def test_a_weave_of_single_pixels_is_seen_in_any_direction() -> None:
    real = gaussian_filter(noise(16).astype(float), (0, 1, 1, 0))
    signs = 1 - 2 * (np.arange(32) % 2)

    for pattern in (signs[:, None], signs[None], signs[:, None] * signs):
        woven = np.clip(real + 4 * pattern[None, ..., None], 0, 255).astype(np.uint8)
        assert weave(real.astype(np.uint8), woven) > 100


def test_real_and_blurred_pictures_have_no_weave() -> None:
    real = noise(16)

    assert weave(real, real) == pytest.approx(1.0)
    assert weave(real, gaussian_filter(real.astype(float), (0, 1, 1, 0)).astype(np.uint8)) < 0.1
