"""`facegen evaluate served`: a model behind a server is measured like the run it came from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from facegen.client import Client, NotFoundError
from facegen.client.cli import app
from facegen.training import load_run
from facegen.training.errors import ConfigurationError
from facegen.training.evaluation.fidelity import psnr_db
from facegen.training.evaluation.run_subject import RunSubject
from facegen.training.evaluation.served import ServedSubject


@pytest.fixture
def served(server_address: str) -> Iterator[ServedSubject]:
    with Client(server_address, timeout_s=60) as client:
        yield ServedSubject(client, "tiny-vae", address=server_address)


def test_served_model_encodes_and_decodes_like_its_run(
    served: ServedSubject, tiny_runs: Mapping[str, Path]
) -> None:
    run = RunSubject(load_run(tiny_runs["vae"]), count=2)
    pixels = load_run(tiny_runs["vae"]).validation_images(3)

    ours, theirs = served.encode(pixels), run.encode(pixels)

    assert ours.mean == pytest.approx(theirs.mean, abs=1e-3)
    assert ours.logvar is not None
    assert theirs.logvar is not None
    assert ours.logvar == pytest.approx(theirs.logvar, abs=1e-3)
    gap = served.decode(theirs.mean).astype(int) - run.decode(theirs.mean)
    assert np.abs(gap).max() <= 1
    assert served.facts.reader == run.facts.reader == "folder"
    assert served.facts.priors == run.facts.priors


def test_served_samples_repeat_past_the_size_of_a_call(served: ServedSubject) -> None:
    samples = served.sample("mixture", 70)

    assert samples.shape == (70, 64, 64, 3)
    assert np.array_equal(served.sample("mixture", 66), samples[:66])
    assert len(np.unique(samples.reshape(70, -1), axis=0)) == 70
    still = served.sample("normal", 2, temperature=0.0)
    assert np.array_equal(still[0], still[1])


def test_command_measures_a_served_model(
    server_address: str, tiny_runs: Mapping[str, Path], tmp_path: Path
) -> None:
    run = load_run(tiny_runs["vae"])
    real = run.validation_images(3)
    words = ["--family", "tiny-vae", "--data", run.config.data.root, "--count", "3", "--json"]

    done = CliRunner().invoke(
        app,
        ["evaluate", "served", "--server", server_address, "--out", str(tmp_path), *words],
        prog_name="facegen",
    )

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert json.loads((tmp_path / "metrics.json").read_text("utf-8")) == found
    assert found["protocol_fields"]["subject"]["source"] == "served"
    assert found["protocol_fields"]["subject"]["address"] == server_address
    assert found["call_decode_ms_batch_64"] > 0
    assert "decode_ms_batch_64" not in found
    subject = RunSubject(run, count=3)
    rebuilt = subject.decode(subject.encode(real).mean)
    assert found["psnr_db"] == pytest.approx(psnr_db(real, rebuilt).mean(), abs=0.1)
    page = (tmp_path / "evaluation.html").read_text("utf-8")
    assert f"on a server at {server_address}" in page
    assert "<h2>Training</h2>" not in page  # a server tells no curves


def test_family_of_expressions_is_refused(expression_server: str) -> None:
    with Client(expression_server, timeout_s=60) as client:
        family = next(it.family for it in client.models() if it.kind == "expression")

        with pytest.raises(ConfigurationError, match="of kind expression; give a vae"):
            ServedSubject(client, family, address=expression_server)


def test_unknown_family_is_not_found(server_address: str) -> None:
    with Client(server_address, timeout_s=60) as client, pytest.raises(NotFoundError):
        ServedSubject(client, "nobody", address=server_address)
