"""How near reconstructions are to their pictures, and how sharp pictures are."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import laplace
from torchmetrics.functional.image import structural_similarity_index_measure

from facegen.training.evaluation.subject import Pixels

__all__ = ["laplacian_variance", "psnr_db", "sharpness", "ssim"]

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
    values = []
    for picture in pixels:
        luma = picture @ _LUMA if picture.shape[-1] == 3 else picture[..., 0].astype(np.float32)
        values.append(float(laplace(luma, mode="nearest").var()))
    return np.array(values, np.float64)


def sharpness(real: Pixels, fake: Pixels) -> float:
    """Mean Laplacian variance of pictures over that of real ones: 1 is as sharp, 0 is flat."""
    return float(laplacian_variance(fake).mean() / max(laplacian_variance(real).mean(), 1e-12))
