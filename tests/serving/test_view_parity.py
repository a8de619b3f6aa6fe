import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegen.serving.imaging import CenterCrop, PictureLimits, Upload, read_view


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("width", "height"), [(178, 218), (89, 109), (250, 250), (64, 64)])
@pytest.mark.parametrize("fraction", [150 / 178, 116 / 250, 1.0])
def test_server_shows_a_model_what_training_showed_it(
    tmp_path: Path, width: int, height: int, fraction: float, channels: int
) -> None:
    from facegen.training.data.dataset import Picture
    from facegen.training.data.decoding import decode_picture

    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    path = tmp_path / "face.jpg"
    path.write_bytes(file.getvalue())

    picture = Picture("face", "validation", path)
    trained = decode_picture(picture, size_px=64, channels=channels, crop=fraction)
    served = read_view(
        Upload(file.getvalue(), "images[0].data"),
        CenterCrop(fraction),
        shape=(64, 64, channels),
        limits=PictureLimits(),
    )

    assert (served == trained).all()
