import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.training.data import Dataset, Picture, load_faces
from facegen.training.data.cache import decode_dataset
from facegen.training.data.decoding import crop_box, decode_picture
from facegen.training.errors import DatasetError


def grey(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (48, 48), np.uint8)


def test_crop_of_celeba_is_whole_pixels_at_full_and_half_size() -> None:
    assert crop_box(178, 218, 150 / 178) == (14, 34, 164, 184)
    assert crop_box(89, 109, 150 / 178) == (7, 17, 82, 92)
    assert crop_box(178, 218, 0.8427) == (14, 34, 164, 184)


def test_crop_of_lfw_is_the_centre_in_whole_pixels() -> None:
    assert crop_box(250, 250, 116 / 250) == (67, 67, 183, 183)
    assert crop_box(128, 128, 116 / 250) == (34, 34, 93, 93)


def test_decoding_crops_reduces_and_keeps_colour(tmp_path: Path) -> None:
    pixels = np.zeros((109, 89, 3), np.uint8)
    pixels[17:92, 7:82] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = Picture("a.png", "train", tmp_path / "a.png")

    decoded = decode_picture(picture, size_px=64, channels=3, crop=150 / 178)

    assert decoded.shape == (64, 64, 3)
    assert (decoded == (200, 100, 50)).all()


def test_decoding_obeys_the_orientation_of_a_photo(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)

    decoded = decode_picture(
        Picture("a.png", "train", tmp_path / "a.png"), size_px=40, channels=1, crop=1
    )

    assert decoded[20, 5, 0] == 0
    assert decoded[20, 35, 0] == 255


def test_pictures_are_decoded_once(celeba: Path, tmp_path: Path) -> None:
    first = load_faces("celeba", celeba, size_px=16, channels=3)
    (array,) = (celeba / "celeba" / ".facegen-cache").glob("celeba-16x16x3-*.npy")
    written = array.stat().st_mtime_ns

    second = load_faces("celeba", celeba, size_px=16, channels=3)

    assert array.stat().st_mtime_ns == written
    assert first.pixels["train"].shape == (32, 16, 16, 3)
    np.testing.assert_array_equal(first.pixels["train"], second.pixels["train"])
    np.testing.assert_array_equal(first.labels("validation", "Smiling"), [1, -1, 1, -1])


def test_corrupt_files_are_counted_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        Image.fromarray(grey(number)).save(tmp_path / f"{number:02d}.jpg")
    whole = (tmp_path / "05.jpg").read_bytes()
    (tmp_path / "05.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "06.jpg").write_text("not a picture", "utf-8")

    for _ in ("decoded", "from the cache"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            faces = load_faces("folder", tmp_path, size_px=16, channels=1)

        assert faces.corrupt == ("05.jpg", "06.jpg")
        assert len(faces.pixels["train"]) + len(faces.pixels["validation"]) == 38
        assert "count=2 files=05.jpg, 06.jpg" in caplog.text


def test_data_set_of_broken_files_only_is_an_error(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_text("not a picture", "utf-8")

    with pytest.raises(DatasetError, match="a readable picture among 3"):
        load_faces("folder", tmp_path, size_px=16, channels=1)


def test_copies_and_flat_pictures_fall_out_and_evaluation_keeps_its_own(tmp_path: Path) -> None:
    pictures = (
        Picture("a", "train", grey(0)),
        Picture("copy of a", "train", grey(0)),
        Picture("also in test", "train", grey(1)),
        Picture("flat", "train", np.full((48, 48), 7, np.uint8)),
        Picture("b", "validation", grey(2)),
        Picture("c", "test", grey(1)),
    )

    decoded = decode_dataset(
        Dataset("fer", tmp_path, pictures, distinct=True), size_px=48, channels=1
    )

    assert [pictures[i].name for i in decoded.kept] == ["a", "b", "c"]
    assert decoded.dropped_count == 3
    np.testing.assert_array_equal(decoded.pixels[2, :, :, 0], grey(1))


def test_cache_goes_to_the_users_cache_where_data_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".facegen-cache").write_text("in the way", "utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    pictures = (Picture("a", "train", grey(0)),)

    decode_dataset(Dataset("x", tmp_path / "data", pictures), size_px=16, channels=1)

    assert len(list((tmp_path / "home" / "facegen").iterdir())) == 2
