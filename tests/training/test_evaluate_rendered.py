"""`facegen evaluate rendered`: pictures of a folder or of shards, measured beside real faces."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from facegen.client.cli import app
from facegen.training.data import load_faces
from facegen.training.errors import DatasetError
from facegen.training.evaluation import EvaluationOptions, evaluate_rendered
from facegen.training.evaluation.explanations import GROUPS, explain
from facegen.training.pages import picture
from tests.training.conftest import draw_face
from tests.training.rendered_files import CONTAINERS, as_folders, as_parquet, png

SETS = ("floor", "rendered", "pca_gaussian")
SIZE_PX = 32
PICTURES = {f"{index:09d}": png(draw_face(100 + index, 48, 48)) for index in range(9)}
OPTIONS = EvaluationOptions(count=4, second_count=3, embedded_count=2, searched_count=2)


def facegen(*words: str | Path | int) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="facegen")


def test_command_measures_every_container_alike(celeba: Path, tmp_path: Path) -> None:
    found = {}
    for name, write in CONTAINERS.items():
        root = write(tmp_path / name, PICTURES)

        done = facegen(
            *("evaluate", "rendered", root, "--reader", "celeba", "--data", celeba),
            *("--count", 4, "--size-px", SIZE_PX, "--out", tmp_path / "out" / name, "--json"),
        )

        assert done.exit_code == 0, done.output
        found[name] = json.loads(done.stdout)
        written = (tmp_path / "out" / name / "metrics.json").read_text("utf-8")
        assert json.loads(written) == found[name]
        page = (tmp_path / "out" / name / "evaluation.html").read_text("utf-8")
        assert f"<h1>{name}: how good are its faces?</h1>" in page
    numbers = [
        {key: it for key, it in one.items() if isinstance(it, float)} for one in found.values()
    ]
    assert numbers[0] == numbers[1] == numbers[2]
    digests = {one["protocol_fields"]["subject"]["sha256"] for one in found.values()}
    assert len(digests) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rendered pictures, one of them broken."""
    pictures = dict(list(PICTURES.items())[:4]) | {"000000002": b"not a picture"}
    return as_parquet(tmp_path_factory.mktemp("rendered") / "seven", pictures)


@pytest.fixture(scope="module")
def measured(celeba: Path, folder: Path) -> dict[str, Any]:
    return evaluate_rendered(
        folder,
        celeba,
        reader="celeba",
        folder=folder.parent / "out",
        size_px=SIZE_PX,
        options=OPTIONS,
        report=folder.parent / "page.html",
    )


def test_all_that_is_said_of_samples_is_said_of_rendered_pictures(
    measured: dict[str, Any],
) -> None:
    kinds = "frechet kernel precision recall density coverage found sharpness spectrum weave"
    expected = {f"{kind}_{name}" for kind in kinds.split() for name in SETS}
    for network in ("lite2", "dlib"):
        expected |= {f"{kind}_{it}_{network}" for kind in ("frechet", "kernel") for it in SETS}
    expected |= {f"frechet_rendered_to_pca_gaussian{it}" for it in ("", "_lite2", "_dlib")}

    numbers = {name for name, it in measured.items() if isinstance(it, float)}

    assert numbers == expected
    for name in numbers:
        group, meaning = explain(name)
        assert group in GROUPS
        assert len(meaning) > 10, name


def test_protocol_says_what_was_compared_and_what_could_not_be_read(
    measured: dict[str, Any],
) -> None:
    subject, data = (measured["protocol_fields"][it] for it in ("subject", "data"))

    assert (subject["name"], subject["source"]) == ("seven", "rendered")
    assert (subject["pictures"], subject["count"], subject["corrupt"]) == (4, 3, 1)
    assert (data["reader"], data["count"], data["image_size_px"]) == ("celeba", 3, SIZE_PX)
    assert "against 3 of 4 rendered pictures" in measured["protocol"]


def test_page_shows_the_pictures_and_minds_the_terms(
    measured: dict[str, Any], folder: Path
) -> None:
    page = (folder.parent / "page.html").read_text("utf-8")

    for title in (
        "Rendered pictures",
        "How far from real faces?",
        "Realism and variety",
        "Does it remember?",
        "All numbers",
        "Protocol",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count('alt="rendered"') == 3
    assert "do not publish it" in page
    assert not (folder.parent / "out" / "evaluation.html").exists()


def test_real_pictures_are_as_good_as_themselves(celeba: Path, tmp_path: Path) -> None:
    real = load_faces("celeba", celeba, size_px=SIZE_PX, channels=3).pixels["validation"]
    root = as_folders(tmp_path / "real", {str(i): png(it) for i, it in enumerate(real)})

    found = evaluate_rendered(
        root, celeba, reader="celeba", folder=tmp_path, size_px=SIZE_PX, options=OPTIONS
    )

    assert found["frechet_rendered"] == pytest.approx(0, abs=1e-3)
    assert found["precision_rendered"] == found["recall_rendered"] == 1
    assert found["sharpness_rendered"] == pytest.approx(1)
    assert found["weave_rendered"] == pytest.approx(1)
    # Every picture stands among the rendered ones on the page.
    page = (tmp_path / "evaluation.html").read_text("utf-8")
    assert all(picture(it, "rendered") in page for it in real)


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ([PICTURES["000000000"]], r"two pictures or more .*, not 1, in"),
        ([PICTURES["000000000"], b"", b""], r"at least 2 that can be read, not 1 of 3, in"),
    ],
)
def test_too_few_pictures_are_refused_with_their_count(
    contents: list[bytes], expected: str, celeba: Path, tmp_path: Path
) -> None:
    root = as_folders(tmp_path / "few", {str(i): it for i, it in enumerate(contents)})

    with pytest.raises(DatasetError, match=expected):
        evaluate_rendered(root, celeba, reader="celeba", folder=tmp_path, options=OPTIONS)


def test_unknown_reader_is_misuse(tmp_path: Path) -> None:
    done = facegen("evaluate", "rendered", tmp_path, "--reader", "imagenet")

    assert done.exit_code == 2
    assert "imagenet" in done.output
