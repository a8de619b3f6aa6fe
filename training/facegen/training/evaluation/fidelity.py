"""How near reconstructions are to their pictures, and how sharp pictures are."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import laplace
from torchmetrics.functional.image import structural_similarity_index_measure

from facegen.training.evaluation.subject import Pixels
from facegen.training.losses import spectral_distance

__all__ = ["laplacian_variance", "psnr_db", "sharpness", "spectrum", "ssim", "weave"]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def psnr_db(real: Pixels, rebuilt: Pixels) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each picture, (N,) in dB, at most 100."""
    error = np.square(real.astype(np.float64) - rebuilt).mean(axis=(1, 2, 3)) / 255**2
    return np.asarray(-10 * np.log10(np.maximum(error, 1e-10)))


def ssim(real: Pixels, rebuilt: Pixels) -> float:
    """Mean structural similarity under a Gaussian window of 11: Wang et al. (2004), equation 13."""
    x, y = (torch.tensor(it).permute(0, 3, 1, 2) / 255.0 for it in (real, rebuilt))
    found = structural_similarity_index_measure(y, x, data_range=1.0)
    return float(found)  # type: ignore[arg-type]  # a tensor unless full images are asked for


def laplacian_variance(pixels: Pixels) -> NDArray[np.float64]:
    """Variance of each picture's Laplacian, (N,): the classical measure of focus.

    Pech-Pacheco et al. (2000), Diatom autofocusing in brightfield microscopy. Of luma in levels of
    255, over the 4-neighbour Laplacian.
    """
    values = [float(laplace(_luma(picture), mode="nearest").var()) for picture in pixels]
    return np.array(values, np.float64)


def sharpness(real: Pixels, fake: Pixels) -> float:
    """Mean Laplacian variance of pictures over that of real ones: 1 is as sharp, 0 is flat."""
    return float(laplacian_variance(fake).mean() / max(laplacian_variance(real).mean(), 1e-12))


def spectrum(real: Pixels, fake: Pixels) -> float:
    """How far pictures' spectrum is from that of real ones: `losses.spectral_distance`."""
    x, y = (torch.tensor(it).permute(0, 3, 1, 2) / 255.0 for it in (real, fake))
    return float(spectral_distance(y, x))


def weave(real: Pixels, fake: Pixels) -> float:
    """How much more than real pictures others change from one pixel to the next and back.

    Up-convolutions leave such traces: Durall et al. (2020), https://arxiv.org/abs/2003.01826.

    Returns:
        The power of a period of two pixels over that of real pictures, the largest of along rows,
        along columns and along both; 1 is as real ones.
    """
    return float((_fastest(fake) / np.maximum(_fastest(real), 1e-12)).max())


def _fastest(pixels: Pixels) -> NDArray[np.float64]:
    """Mean power of pictures (N, H, W, C) at the highest frequencies, (3,), under Hann's window."""
    _, height, width, _ = pixels.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    signs = [1 - 2.0 * (np.arange(size) % 2) for size in (height, width)]
    rows, columns = signs[0][:, None] * window, signs[1] * window
    patterns = np.stack([rows, columns, rows * signs[1]])
    luma = np.stack([_luma(picture) for picture in pixels])
    luma = luma - luma.mean((1, 2), keepdims=True)
    power: NDArray[np.float64] = np.square(np.einsum("nhw,phw->np", luma, patterns)).mean(0)
    return power


def _luma(picture: Pixels) -> NDArray[np.float32]:
    return picture @ _LUMA if picture.shape[-1] == 3 else picture[..., 0].astype(np.float32)
