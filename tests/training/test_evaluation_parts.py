"""What an evaluation is made of, each part by itself."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facegen.training.data.labels import Labels
from facegen.training.directions import Directions
from facegen.training.evaluation.curves import curves, read_table
from facegen.training.evaluation.draws import draw
from facegen.training.evaluation.explanations import explain
from facegen.training.evaluation.gallery import spherical
from facegen.training.evaluation.labels import rows_with
from facegen.training.evaluation.run_subject import RunSubject
from facegen.training.evaluation.timing import time_subject
from facegen.training.run import RunPaths, load_run


def labels() -> Labels:
    values = np.array([[True, False], [False, False], [True, True]])
    return Labels("celeba", ("Blond_Hair", "Male"), values, np.array([True, True, True]))


@pytest.mark.parametrize(
    ("prior", "rows"),
    [("blond-hair", [0, 2]), ("not-male", [0, 1]), ("male", [2]), ("mixture", [])],
)
def test_a_priors_name_finds_the_pictures_it_answers_for(prior: str, rows: list[int]) -> None:
    assert rows_with(labels(), prior).tolist() == rows


def test_draws_of_more_begin_with_those_of_fewer() -> None:
    few, many = draw(3, 5, 10), draw(7, 5, 10)

    assert np.array_equal(many.noise[:3], few.noise)
    assert len(set(many.rows.tolist())) == 7


def test_samples_repeat_and_temperature_moves_them(tiny_runs: Mapping[str, Path]) -> None:
    subject = RunSubject(load_run(tiny_runs["vae"]), count=4)

    samples = subject.sample("mixture", 4)

    assert samples.shape == (4, 64, 64, 3)
    assert np.array_equal(subject.sample("mixture", 2), samples[:2])
    assert not np.array_equal(subject.sample("mixture", 4, temperature=0.5), samples)
    still = subject.sample("normal", 4, temperature=0.0)
    assert np.array_equal(still, still[:1].repeat(4, axis=0))


def test_directions_that_were_measured_not_to_work_are_not_shown(
    tiny_runs: Mapping[str, Path],
) -> None:
    run = load_run(tiny_runs["vae"])
    names = ("Smiling", "Bald", "component-1")
    moves = Directions(names, np.zeros((3, run.config.model.latent_size), np.float32))
    effects = {"directions": {"Smiling": {"kept": True}, "Bald": {"kept": False}}}

    subject = RunSubject(replace(run, directions=moves, effects=effects), count=1)

    assert list(subject.directions) == ["Smiling", "component-1"]


def test_timings_are_those_of_an_image(tiny_runs: Mapping[str, Path]) -> None:
    subject = RunSubject(load_run(tiny_runs["autoencoder"]), count=2)

    found = time_subject(subject, subject.sample("normal", 2), seconds=0.0)

    assert set(found) == {f"{way}_ms_batch_{it}" for way in ("encode", "decode") for it in (1, 64)}
    assert all(0 < it < 1000 for it in found.values())


def test_spherical_path_keeps_the_norm_and_meets_both_ends() -> None:
    start, end = np.array([2.0, 0.0], np.float32), np.array([0.0, 2.0], np.float32)

    path = spherical(start, end, count=5)

    assert np.linalg.norm(path, axis=1) == pytest.approx(2.0)
    assert path[0] == pytest.approx(start)
    assert path[-1] == pytest.approx(end, abs=1e-6)


def test_table_joins_the_rows_of_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,train/loss,validation/loss\n0,3.0,\n0,,4.0\n1,2.0,3.5\n", "utf-8")

    assert read_table(path) == [
        {"epoch": 0.0, "train/loss": 3.0, "validation/loss": 4.0},
        {"epoch": 1.0, "train/loss": 2.0, "validation/loss": 3.5},
    ]


def test_curves_go_back_to_the_run_that_was_the_start(tmp_path: Path) -> None:
    for name, start in (("first", ""), ("second", "elsewhere/first")):
        folder = RunPaths(tmp_path / name)
        folder.metrics_folder.mkdir(parents=True)
        folder.config.write_text(f'start_from = "{start}"\n', "utf-8")
        folder.table.write_text("epoch,train/loss,validation/loss\n0,3.0,4.0\n1,2.0,3.0\n", "utf-8")

    def points(name: str) -> list[int]:
        """Of the curves of train and validation."""
        paths = re.findall(r' d="([^"]+)"', curves(RunPaths(tmp_path / name)))
        return [len(re.findall("[ML]", it)) for it in paths]

    assert points("first") == [2, 2]
    assert points("second") == [4, 4]
    assert "class=mark" in curves(RunPaths(tmp_path / "second"))
    assert "class=mark" not in curves(RunPaths(tmp_path / "first"))
    assert curves(RunPaths(tmp_path / "none")) == ""


@pytest.mark.parametrize(
    ("name", "group", "words"),
    [
        ("frechet_mixture_lite2", "Another network's opinion", "seen by EfficientNet-Lite2"),
        ("frechet_smiling_floor", "Labels", "training pictures of that label"),
        ("kernel_mixture_temperature_0.7", "Temperature", "at temperature 0.7"),
        ("call_decode_ms_batch_64", "Time", "a call to the server"),
        ("inception_fid_normal", "Another network's opinion", "Inception FID"),
        ("frechet_mixture_to_pca_gaussian_dlib", "Another network's opinion", "over that of PCA"),
    ],
)
def test_names_are_put_into_words(name: str, group: str, words: str) -> None:
    found = explain(name)

    assert found[0] == group
    assert words in found[1]
