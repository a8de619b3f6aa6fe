import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from facegen.training.pages import (
    Bar,
    Line,
    Section,
    bars,
    histogram,
    lighter,
    line_chart,
    page,
    picture,
    strip,
    table,
    terms,
    tile,
)


def decoded(element: str) -> np.ndarray:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', element)
    assert found
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_page_holds_its_style_and_leaves_out_empty_sections() -> None:
    html = page("A & B", "<p>lead</p>", [Section("One", "<p>1</p>", "note <"), Section("Two", "")])

    assert "<h1>A &amp; B</h1>" in html
    assert "note &lt;" in html
    assert "Two" not in html
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"(?:src|href)=\"?https?:|@import|url\(", html)


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_comes_back_without_loss(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 4, channels), dtype=np.uint8)

    found = decoded(picture(image, "it"))

    assert np.array_equal(found.reshape(image.shape), image)


def test_strip_sets_pictures_side_by_side() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)

    found = decoded(strip(images, "row", gap_px=2))

    assert found.shape == (5, 3 * 4 + 2 * 2, 4)
    assert np.array_equal(found[:, 6:10, :3], images[1])
    assert found[0, :, 3].tolist() == [255] * 4 + [0] * 2 + [255] * 4 + [0] * 2 + [255] * 4


def test_bars_are_as_long_as_their_values() -> None:
    html = bars([Bar("model", 50.0, "own"), Bar("rival", 100.0), Bar("none", -1.0)])

    assert re.findall(r"width:([\d.]+)%", html) == ["50.0", "100.0", "0.0"]
    assert 'class="track own"' in html


def test_curve_is_broken_where_it_is_not_finite() -> None:
    line = Line("loss", [0, 1, 2, 3], [1.0, float("nan"), 3.0, 2.0], 1)

    html = line_chart([line], title="Loss", x_title="epoch")

    found = re.search(r'<path class="line color-1" d="([^"]+)"', html)
    assert found
    assert re.findall(r"[ML]", found[1]) == ["M", "M", "L"]


def test_curves_end_at_the_corners_of_their_range() -> None:
    line = Line("loss", [0, 10], [0.0, 1.0], 2)

    html = line_chart([line, Line("other", [0], [0.5], 3)], title="Loss", x_title="epoch")

    found = re.search(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', html)
    assert found
    x0, y0, x1, y1 = map(float, found.groups())
    assert x0 < x1
    assert y0 > y1  # more is higher up
    assert "legend" in html


def test_mark_stands_where_it_is_asked_for() -> None:
    line = Line("loss", [0, 10], [0.0, 1.0], 1)

    html = line_chart([line], title="Loss", x_title="epoch", marks=[5.0])

    start, end = re.findall(r'd="M([\d.]+) [\d.]+L([\d.]+)', html)[0]
    found = re.search(r'class=mark x1="([\d.]+)"', html)
    assert found
    assert float(found[1]) == pytest.approx((float(start) + float(end)) / 2, abs=0.1)


def test_histogram_has_a_column_for_each_bin() -> None:
    html = histogram(np.arange(100.0), title="PSNR", x_title="dB", bins=10)

    heights = [float(it) for it in re.findall(r'class=column[^>]* height="([\d.]+)"', html)]
    assert len(heights) == 10
    assert max(heights) - min(heights) < 0.2


def test_table_marks_its_mean_and_tile_its_share() -> None:
    assert "<tr class=mean><th>mean</th>" in table(
        ["", "x"], [["a", "<td>1</td>"], ["mean", "<td>1</td>"]], last_is_mean=True
    )
    assert "width:25.0%" in tile("1/4", "part", "of it", filled=0.25)
    assert "width" not in tile("23 dB", "PSNR", "")


def test_terms_are_plain_text() -> None:
    html = terms([("a_b", "-1.5", "less < more")])

    assert html == ("<div class=terms><code>a_b</code><b>−1.5</b><span>less &lt; more</span></div>")


def test_lighter_page_has_smaller_pictures_that_look_alike() -> None:
    rows, columns = np.mgrid[:64, :64]
    image = np.stack([4 * rows, 4 * columns, 2 * (rows + columns)], -1).astype(np.uint8)
    noisy = image ^ np.random.default_rng(0).integers(0, 8, image.shape, np.uint8)
    html = f"<p>{picture(noisy, 'a face')}</p>"

    found = lighter(html)

    data = re.search(r'src="data:image/webp;base64,([^"]+)"', found)
    assert data
    assert len(found) < len(html) / 2
    assert 'alt="a face"' in found
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB"))
    assert np.abs(back.astype(int) - noisy).mean() < 8
