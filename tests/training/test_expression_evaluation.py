"""The measures on pictures whose answers are known: an expression is a level of grey."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facegen.training.data.alignment import TEMPLATE
from facegen.training.expression.change import measure_change
from facegen.training.expression.distortions import DISTORTIONS, blur
from facegen.training.expression.identity import IdentityNetwork, Query, measure_identity
from facegen.training.expression.judging import (
    Judge,
    measure_judge,
    measure_robustness,
    measure_targets,
)
from facegen.training.expression.model import (
    Edit,
    ExpressionConfig,
    ExpressionModel,
    apply_edit,
)
from facegen.training.expression.realism import measure_realism
from facegen.training.expression.sources import LabelledFaces, Pixels, choose_sources
from facegen.training.expression.transferring import Transferred, transfer_with
from facegen.training.features import FeatureNetwork
from facegen.training.module import to_input

LEVELS: Mapping[str, int] = {"neutral": 40, "happiness": 120, "anger": 200}


def level_of(images: Pixels) -> NDArray[np.float64]:
    return np.asarray(images.mean(axis=(1, 2, 3)), np.float64)


def nearest_level(images: Pixels) -> NDArray[np.floating]:
    distances = np.abs(level_of(images)[:, None] - np.array([*LEVELS.values()]))
    return np.asarray(np.exp(-distances / 20))


LEVEL_JUDGE = Judge(tuple(LEVELS), nearest_level, "reads the grey level")


def shift_level(images: Pixels, expression: str, strength: float) -> Transferred:
    """Move every picture by `strength` of the way to the expression's level."""
    step = strength * (LEVELS[expression] - level_of(images))[:, None, None, None]
    edited = np.clip(np.rint(images + step), 0, 255).astype(np.uint8)
    shape = images.shape[:3]
    return Transferred(edited, np.ones(shape, np.float32), np.zeros((*shape, 2), np.float32))


def grey_faces(counts: Mapping[str, int], *, side_px: int = 48) -> LabelledFaces:
    random = np.random.default_rng(3)
    names = [name for name, count in counts.items() for _ in range(count)]
    noise = random.integers(-8, 9, (len(names), side_px, side_px, 1))
    pixels = np.array([LEVELS[name] for name in names])[:, None, None, None] + noise
    return LabelledFaces(pixels.astype(np.uint8), np.array(names))


def test_sources_are_even_over_expressions_in_every_first_part() -> None:
    faces = grey_faces({"neutral": 50, "happiness": 8, "anger": 3}, side_px=4)

    chosen = choose_sources(faces, 18, expressions=tuple(LEVELS), seed=1)
    again = choose_sources(faces, 18, expressions=tuple(LEVELS), seed=1)
    other = choose_sources(faces, 18, expressions=tuple(LEVELS), seed=2)

    assert chosen.counts(tuple(LEVELS)) == {"neutral": 8, "happiness": 7, "anger": 3}
    assert chosen.take(np.arange(9)).counts(tuple(LEVELS)) == dict.fromkeys(LEVELS, 3)
    np.testing.assert_array_equal(chosen.pixels, again.pixels)
    assert not np.array_equal(chosen.pixels, other.pixels)


def test_target_rates_follow_the_strength_between_floor_and_ceiling() -> None:
    sources = grey_faces(dict.fromkeys(LEVELS, 5))
    edited = {
        name: shift_level(sources.pixels[sources.expressions != name], name, 1.0).images
        for name in LEVELS
    }

    found = measure_targets(
        shift_level, LEVEL_JUDGE, sources, edited, tuple(LEVELS), strengths=(0.25, 0.8)
    )

    assert found["floor"]["mean"] == 0
    assert found["target_rate"]["0.25"]["mean"] == 0
    # A quarter of the way is too little; at 0.8 both neighbours and the far end have arrived.
    assert found["target_rate"]["0.8"]["by_expression"] == dict.fromkeys(LEVELS, 1.0)
    assert found["target_rate"]["1"]["mean"] == 1
    assert found["confusion"]["anger"] == {"neutral": 0, "happiness": 0, "anger": 1}
    assert found["by_source"]["anger"] == {"neutral": 1, "happiness": 1}


def test_doing_nothing_reaches_the_floor_and_no_more() -> None:
    sources = grey_faces(dict.fromkeys(LEVELS, 5))
    wrong = LabelledFaces(sources.pixels, np.roll(sources.expressions, 2))  # people disagree
    edited = {name: wrong.pixels[wrong.expressions != name] for name in LEVELS}

    found = measure_targets(
        shift_level, LEVEL_JUDGE, wrong, edited, tuple(LEVELS), strengths=(1.0,)
    )

    assert found["target_rate"]["1"] == found["floor"]
    assert 0 < found["floor"]["mean"] < 0.5


def test_the_judges_accuracy_on_real_faces_is_the_ceiling() -> None:
    real = grey_faces({"neutral": 4, "happiness": 4, "anger": 4})
    labels = real.expressions.copy()
    labels[0] = "happiness"

    found = measure_judge(LEVEL_JUDGE, LabelledFaces(real.pixels, labels), tuple(LEVELS))

    assert found["ceiling"]["by_expression"] == {"neutral": 1, "happiness": 0.8, "anger": 1}
    assert found["ceiling"]["mean"] == pytest.approx(2.8 / 3)
    assert found["real_confusion"]["happiness"]["neutral"] == pytest.approx(0.2)


def test_adversarial_noise_dies_of_blur_and_an_expression_does_not() -> None:
    faces = grey_faces({"neutral": 4, "anger": 4})
    board = np.indices((48, 48)).sum(0) % 2 * 2.0 - 1

    def hears_noise(images: Pixels) -> NDArray[np.floating]:
        """Anger is a level of grey, or, as for a deceived network, a fine checkerboard."""
        heard = np.abs((images[..., 0] * board).mean(axis=(1, 2))) > 5
        angry = heard | (level_of(images) > 160)
        return np.stack([~angry, angry], 1).astype(np.float64)

    judge = Judge(("neutral", "anger"), hears_noise, "easily deceived")
    sources = faces.showing("neutral").pixels
    noisy = np.clip(sources + 12 * board[..., None], 0, 255).astype(np.uint8)
    honest = shift_level(sources, "anger", 1.0).images

    deceived = measure_robustness(judge, {"anger": noisy}, faces, ["anger"])
    reached = measure_robustness(judge, {"anger": honest}, faces, ["anger"])

    assert measure_judge(judge, LabelledFaces(noisy, np.array(["anger"] * 4)), ["anger"])[
        "ceiling"
    ] == {"mean": 1, "by_expression": {"anger": 1}}
    assert deceived["blur_1px"]["mean"] == deceived["blur_1px_jpeg_75"]["mean"] == 0
    assert all(it["mean"] == it["ceiling"] == 1 for it in reached.values())


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distortions_change_pictures_a_little(name: str) -> None:
    images = np.random.default_rng(0).integers(60, 200, (3, 48, 48, 1), dtype=np.uint8)

    worn = DISTORTIONS[name](images)

    assert worn.shape == images.shape
    assert worn.dtype == np.uint8
    difference = np.abs(worn.astype(int) - images).mean(axis=(1, 2, 3))
    assert (difference > 1).all()
    assert np.allclose(level_of(worn), level_of(images), atol=2)


def test_blur_is_the_gaussian_of_one_pixel() -> None:
    point = np.zeros((1, 48, 48, 1), np.uint8)
    point[0, 20, 30] = 255

    spread = blur(point)[0, ..., 0].astype(float)

    columns = spread.sum(0) / spread.sum()
    deviation = np.sqrt((columns * (np.arange(48) - 30) ** 2).sum())
    assert deviation == pytest.approx(1.0, abs=0.06)


@pytest.fixture(scope="module")
def identity() -> IdentityNetwork:
    return IdentityNetwork()


def test_chips_have_the_points_where_dlib_puts_them(identity: IdentityNetwork) -> None:
    image = np.zeros((1, 48, 48, 1), np.uint8)
    for x, y in TEMPLATE * 48:
        image[0, int(y), int(x)] = 255

    chip = identity.chips(image)

    assert chip.shape == (1, 150, 150, 3)
    # dlib.get_face_chip(padding=0.25): outer corners of the eyes, base of the nose.
    for x, y in ((111, 46), (37, 46), (74, 88)):
        near = chip[0, y - 5 : y + 6, x - 5 : x + 6, 0]
        assert near.max() > 60, (x, y)


def test_faces_find_themselves_and_nobody_else(identity: IdentityNetwork) -> None:
    gallery = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)
    rows = np.array([1, 3, 4])

    found = measure_identity(
        identity,
        gallery,
        {"anger": Query(gallery[rows], rows), "neutral": Query(gallery[rows], rows - 1)},
        blurred_count=2,
    )

    kept, lost = (found["by_expression"][name] for name in ("anger", "neutral"))
    assert kept["same_person_rate"] == kept["retrieval"] == kept["pixel_retrieval"] == 1
    assert kept["mean_distance"] == pytest.approx(0, abs=1e-6)
    assert lost["retrieval"] == lost["pixel_retrieval"] == 0
    assert found["retrieval"] == 0.5
    assert (found["count"], found["gallery"]) == (6, 6)
    assert found["ceiling"]["mean_distance"] > 0


def test_change_is_told_apart_inside_and_outside_of_the_mask() -> None:
    sources = np.full((2, 12, 12, 1), 100, np.uint8)
    images, mask = sources.copy(), np.zeros((2, 12, 12), np.float32)
    images[:, 3:9, 3:9] += 20
    images[0, 0, 0] += 44
    mask[:, 3:9, 3:9] = 0.5
    flow = np.zeros((2, 12, 12, 2), np.float32)
    flow[:, :, :6] = (0.03, 0.04)

    found = measure_change(sources, Transferred(images, mask, flow))

    assert found["inside"] == 20
    assert found["outside"] == pytest.approx(44 / (2 * 108))
    assert found["border"] == pytest.approx(44 / (2 * 44))
    assert found["support_area"] == pytest.approx(36 / 144)
    assert found["mask_area"] == pytest.approx(18 / 144)
    assert found["flow_px"] == pytest.approx(12 * 0.05 / 2)


@pytest.fixture(scope="module")
def model() -> ExpressionModel:
    torch.manual_seed(0)
    config = ExpressionConfig(latent_size=4, widths=(4, 6, 6, 8, 8), feature_channels=3)
    return ExpressionModel(config).eval()


def test_transfer_edits_as_the_model_does_and_gives_the_input_back(model: ExpressionModel) -> None:
    images = np.random.default_rng(0).integers(0, 256, (130, 48, 48, 1), dtype=np.uint8)
    transfer = transfer_with(model)

    edited, untouched = (transfer(images, "anger", strength) for strength in (1.0, 0.0))

    x = to_input(torch.from_numpy(images[:5]))
    with torch.no_grad():
        encoding = model.encoder(x)
        edit = model.decoders["anger"](encoding.posterior.mu, encoding.features)
        expected = apply_edit(x, edit).clamp(0, 1).permute(0, 2, 3, 1) * 255
    np.testing.assert_allclose(edited.images[:5], expected.numpy(), atol=0.51)
    np.testing.assert_array_equal(untouched.images, images)
    assert not untouched.mask.any()
    assert not untouched.flow.any()


def test_mask_and_flow_are_told_as_they_are_applied(model: ExpressionModel) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)

    edited = transfer_with(model)(images, "surprise", 0.7)

    x = to_input(torch.from_numpy(images))
    with torch.no_grad():
        encoding = model.encoder(x)
        edit = model.decoders["surprise"](encoding.posterior.mu, encoding.features)
        black, still = torch.zeros_like(x), torch.zeros_like(edit.flow)
        white = Edit(torch.ones_like(x), edit.mask, still)
        ramp = ((torch.arange(48) + 0.5) / 48).expand_as(x)
        moved = Edit(black, torch.zeros_like(edit.mask), edit.flow)
        mask, right = apply_edit(black, white, 0.7), apply_edit(ramp, moved, 0.7) - ramp
    np.testing.assert_allclose(edited.mask, mask[:, 0], atol=1e-6)
    inner = slice(8, 40)  # at the edges the ramp ends
    np.testing.assert_allclose(
        edited.flow[:, inner, inner, 0], right[:, 0, inner, inner], atol=1e-5
    )


def test_realism_is_the_better_the_more_edits_resemble_the_expression() -> None:
    faces = grey_faces({"neutral": 20, "anger": 20, "happiness": 3})
    sources = faces.showing("neutral")
    edited = {
        "anger": shift_level(sources.pixels, "anger", 1.0).images,
        "happiness": shift_level(sources.pixels, "happiness", 1.0).images,
    }

    found = measure_realism(FeatureNetwork(), edited, sources, faces, limit=8, seed=0)

    assert list(found) == ["anger"]  # of happiness there are too few
    assert found["anger"]["count"] == 8
    for kind in ("frechet", "kernel"):
        assert found["anger"][kind] < found["anger"][f"{kind}_unchanged"]
        assert found["anger"][f"{kind}_floor"] < found["anger"][f"{kind}_unchanged"]
