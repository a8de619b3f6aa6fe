import numpy as np
import pytest
from numpy.typing import NDArray

from facegen.training.attributes import balanced_accuracy, fit_classifier


def two_kinds(count: int, *, share: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(0)
    has = random.random((count, 1)) < share
    features = random.standard_normal((count, 30)).astype(np.float32) * 5 + 100
    features[:, :1] += 15 * has
    return features, has


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_rare_labels_are_recognised_as_well_as_common_ones(share: float) -> None:
    features, has = two_kinds(4000, share=share)
    classifier = fit_classifier(features[:2000], has[:2000], names=["rare"])

    probabilities = classifier.probabilities(features[2000:])

    (accuracy,) = balanced_accuracy(probabilities, has[2000:])
    assert accuracy > 0.88
    assert probabilities[has[2000:]].mean() > 0.75
    assert probabilities[~has[2000:]].mean() < 0.25


def test_label_that_features_do_not_tell_stays_undecided() -> None:
    features, _ = two_kinds(4000, share=0.5)
    coin = np.random.default_rng(1).random((4000, 1)) < 0.5

    classifier = fit_classifier(features[:2000], coin[:2000], names=["coin"])
    (accuracy,) = balanced_accuracy(classifier.probabilities(features[2000:]), coin[2000:])

    assert accuracy == pytest.approx(0.5, abs=0.05)


def test_balanced_accuracy_weighs_both_kinds_alike_and_knows_what_it_cannot_say() -> None:
    values = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], np.bool_)
    probabilities = np.array([[0.9, 1, 0], [0.9, 1, 0], [0.1, 1, 0], [0.1, 0, 0]], np.float32)

    accuracies = balanced_accuracy(probabilities, values)

    assert accuracies[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(accuracies[1:]).all()
