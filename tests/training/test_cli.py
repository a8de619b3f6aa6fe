import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facegen.training.cli import train
from facegen.training.config import load_recipe, preset_names
from facegen.training.errors import DatasetError

app = typer.Typer()
app.command()(train)


def test_help_lists_every_preset_and_does_not_load_torch() -> None:
    program = (
        "import sys\nfrom facegen.client.cli import main\n"
        "sys.argv = ['facegen', 'train', '--help']\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100
    )

    assert "torch was loaded" not in done.stderr
    words = " ".join(done.stdout.replace("│", " ").split())
    for name in preset_names():
        assert f"{name}: {load_recipe(name).description.partition(',')[0]}" in words


def test_train_command_trains_on_a_folder_and_prints_the_run(celeba: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'batch_size = 8\n[model]\nkind = "autoencoder"\nimage_size = 16\nwidths = [4, 6]\n'
        'latent_size = 3\n[loss]\nreconstruction = "mse"\n[prior]\ncomponents = 2\n',
        "utf-8",
    )
    images, out = str(celeba / "celeba"), str(tmp_path)

    done = CliRunner().invoke(
        app,
        [str(recipe), "--images", images, "--out", out, "--epochs", "1", "--threads", "1"],
        catch_exceptions=False,
    )

    assert done.stdout == f"{tmp_path / 'mine'}\n"
    facts = json.loads((tmp_path / "mine" / "run.json").read_text("utf-8"))
    assert facts["train_pictures"] + facts["validation_pictures"] == 36


def test_train_command_without_data_fails_with_the_remedy(tmp_path: Path) -> None:
    options = ["--data", str(tmp_path), "--out", str(tmp_path / "runs")]

    with pytest.raises(DatasetError, match=r"img_align_celeba/000001\.jpg.*mmlab"):
        CliRunner().invoke(app, ["celeba-vae", *options], catch_exceptions=False)
