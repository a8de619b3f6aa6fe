from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegen.training import RunError, TrainConfig, load_config, load_run, train_run
from facegen.training.callbacks.pictures import picture_grid
from facegen.training.errors import ConfigurationError, DatasetError, NonFiniteError
from facegen.training.latents import decode_latents, encode_pictures
from facegen.training.run import Run, RunPaths


def tiny(celeba: Path, preset: str, *changes: str) -> TrainConfig:
    return load_config(
        preset,
        [
            f"data.root='{celeba}'",
            "model.image_size=16",
            "model.widths=[4,6,8]",
            "model.latent_size=4",
            "batch_size=8",
            "epochs=2",
            "picture_count=4",
            "prior.components=2",
            "prior.labels=[]",
            "optimizer.warmup_steps=2",
            "precision='32'",
            *changes,
        ],
    )


@pytest.fixture(scope="module")
def vae(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "vae"
    config = tiny(
        celeba, "celeba-vae", "epochs=20", "optimizer.learning_rate=1e-2", "ema_decay=0.9"
    )
    return train_run(config, folder, device="cpu", threads=1)


def rows(run: Run) -> list[dict[str, str]]:
    header, *lines = run.paths.table.read_text("utf-8").splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def test_run_folder_holds_everything(vae: Run) -> None:
    folder = vae.paths.folder

    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}

    assert found >= {
        "config.toml",
        "run.json",
        "model.safetensors",
        "prior.npz",
        "checkpoints/last.ckpt",
        "metrics/metrics.csv",
        "pictures/losses.png",
        "pictures/reconstructions-001.png",
        "pictures/reconstructions-020.png",
        "pictures/samples-001.png",
        "pictures/samples-020.png",
    }
    assert any(name.startswith("metrics/events.out.tfevents") for name in found)
    assert not [name for name in found if name.endswith(".tmp")]


def test_facts_name_seed_commit_time_versions_and_data(vae: Run) -> None:
    assert vae.facts["seed"] == 0
    assert vae.facts["finished"] is True
    assert vae.facts["epochs"] == 20
    assert vae.facts["steps"] == 20 * 32 // 8
    assert vae.facts["device"] == "cpu"
    assert vae.facts["threads"] == 1
    assert vae.facts["precision"] == "32-true"
    assert vae.facts["torch"] == torch.__version__
    assert (vae.facts["train_pictures"], vae.facts["validation_pictures"]) == (32, 4)
    assert {"commit", "started", "seconds", "epoch_seconds", "crop"} <= vae.facts.keys()


def test_training_makes_losses_smaller_and_reconstructions_better(vae: Run) -> None:
    table = rows(vae)

    assert [int(row["epoch"]) for row in table] == list(range(20))
    assert float(table[-1]["train/loss"]) < float(table[0]["train/loss"])
    assert float(table[-1]["validation/psnr"]) > float(table[0]["validation/psnr"]) + 1
    assert float(table[-1]["train/kl"]) > 0
    assert {"train/reconstruction", "validation/reconstruction", "validation/kl"} <= table[0].keys()


def test_reported_psnr_is_that_of_the_saved_weights(vae: Run) -> None:
    pictures = vae.validation_images(4)

    found = decode_latents(vae.model, encode_pictures(vae.model, pictures))

    error = np.square((found.astype(float) - pictures) / 255).reshape(4, -1).mean(1)
    reported = float(rows(vae)[-1]["validation/psnr"])
    assert (-10 * np.log10(error)).mean() == pytest.approx(reported, abs=0.02)


def test_grids_have_the_asked_for_pictures(vae: Run) -> None:
    with Image.open(vae.paths.pictures / "samples-020.png") as samples:
        assert samples.size == (2 * 16, 2 * 16)
    with Image.open(vae.paths.pictures / "reconstructions-020.png") as pairs:
        left = np.asarray(pairs)[:16, :16]
    np.testing.assert_array_equal(left, vae.validation_images(1)[0])


def test_loaded_run_is_the_trained_one(vae: Run) -> None:
    run = load_run(vae.paths.folder)
    latents = vae.prior.sample(np.ones((3, 4), np.float32), np.full((3, 1), 0.5, np.float32))

    assert run.config == vae.config
    assert run.metrics == {}
    assert not run.model.training
    np.testing.assert_array_equal(
        decode_latents(run.model, latents), decode_latents(vae.model, latents)
    )


def test_autoencoder_trains_without_a_kl(celeba: Path, tmp_path: Path) -> None:
    run = train_run(tiny(celeba, "celeba-ae"), tmp_path / "ae", device="cpu", threads=1)

    assert run.model.encoder.logvar is None
    assert {row["train/kl"] for row in rows(run)} == {"0.0"}
    assert run.prior.means.shape == (2, 4)


def test_bfloat16_is_for_the_steps_and_weights_keep_32_bits(celeba: Path, tmp_path: Path) -> None:
    config = tiny(celeba, "celeba-vae", "precision=bf16", "epochs=1")
    plain = tiny(celeba, "celeba-vae", "epochs=1")

    run = train_run(config, tmp_path / "bf16", device="cpu", threads=1)

    other = train_run(plain, tmp_path / "plain", device="cpu", threads=1)
    assert run.facts["precision"] == "bf16-mixed"
    assert {value.dtype for value in run.model.parameters()} == {torch.float32}
    losses = [float(rows(it)[-1]["train/loss"]) for it in (run, other)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_grey_folder_trains_with_fixed_weight_and_one_cycle(celeba: Path, tmp_path: Path) -> None:
    config = tiny(
        celeba / "celeba",
        "fer-vae",
        "data.reader=folder",
        "loss.reconstruction=fixed",
        "loss.beta=0.5",
        "loss.ssim_weight=0",
        "optimizer.schedule=one-cycle",
        "ema_decay=0",
        "channels_last=false",
        "epochs=1",
    )

    run = train_run(config, tmp_path / "grey", device="cpu", threads=1)

    assert run.validation_images(2).shape[1:] == (16, 16, 1)
    last = rows(run)[-1]
    total = float(last["train/reconstruction"]) + 0.5 * float(last["train/kl"])
    assert float(last["train/loss"]) == pytest.approx(total, rel=1e-4)


def test_seed_decides_the_weights(celeba: Path, tmp_path: Path) -> None:
    def weights(seed: int, name: str) -> torch.Tensor:
        config = tiny(celeba, "celeba-vae", f"seed={seed}", "epochs=1")
        return train_run(
            config, tmp_path / name, device="cpu", threads=1
        ).model.decoder.linear.weight

    first = weights(1, "a")
    torch.rand(10)  # the global generator must not matter

    assert torch.equal(first, weights(1, "b"))
    assert not torch.equal(first, weights(2, "c"))


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(celeba: Path, tmp_path: Path) -> None:
    config = tiny(
        celeba,
        "celeba-ae",
        "optimizer.learning_rate=1e30",
        "optimizer.schedule=constant",
        "optimizer.gradient_clip_norm=0",
        "optimizer.warmup_steps=0",
    )

    with pytest.raises(NonFiniteError, match=r"is (nan|inf) at step \d+ of epoch 0; no checkpoint"):
        train_run(config, tmp_path / "nan", device="cpu", threads=1)

    assert not RunPaths(tmp_path / "nan").weights.exists()


def test_finished_run_is_not_overwritten(vae: Run) -> None:
    before = vae.paths.weights.stat().st_mtime_ns

    with pytest.raises(RunError, match="already finished; choose another --name"):
        train_run(vae.config, vae.paths.folder, device="cpu", threads=1)

    assert vae.paths.weights.stat().st_mtime_ns == before


def test_resume_without_a_checkpoint_is_refused(celeba: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        train_run(tiny(celeba, "celeba-vae"), tmp_path / "none", resume=True, device="cpu")


def test_unfinished_run_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.toml"):
        load_run(tmp_path)
    (tmp_path / "config.toml").write_text("", "utf-8")
    with pytest.raises(RunError, match="--resume"):
        load_run(tmp_path)


def test_missing_data_leaves_no_run_folder(tmp_path: Path) -> None:
    config = load_config("celeba-vae", [f"data.root='{tmp_path / 'nowhere'}'"])

    with pytest.raises(DatasetError):
        train_run(config, tmp_path / "run", device="cpu", threads=1)

    assert not (tmp_path / "run").exists()


def test_impossible_model_is_a_configuration_error(celeba: Path, tmp_path: Path) -> None:
    config = tiny(celeba, "celeba-vae", "model.image_size=20")

    with pytest.raises(ConfigurationError, match="3 widths need a multiple of 8"):
        train_run(config, tmp_path / "run", device="cpu", threads=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_not_there_is_never_replaced(celeba: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no CUDA device"):
        train_run(tiny(celeba, "celeba-vae"), tmp_path / "run", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_trains_on_cuda(celeba: Path, tmp_path: Path) -> None:
    run = train_run(tiny(celeba, "celeba-vae"), tmp_path / "run", device="cuda", threads=1)

    assert run.facts["device"] != "cpu"
    assert next(run.model.parameters()).device.type == "cpu"


def test_refinement_keeps_a_runs_encoder_and_trains_its_decoder_on(
    vae: Run, celeba: Path, tmp_path: Path
) -> None:
    start = f"start_from='{vae.paths.folder}'"
    config = tiny(celeba, "celeba-vae-sharp", start, "model.head_width=4", "ema_decay=0")

    tuned = train_run(config, tmp_path / "tuned", device="cpu", threads=1)

    own = vae.model.state_dict()
    for name, weights in tuned.model.encoder.state_dict(prefix="encoder.").items():
        assert weights.equal(own[name]), name
    assert not tuned.model.decoder.linear.weight.equal(own["decoder.linear.weight"])
    terms = {"train/critic", "train/judged", "train/features", "train/spectrum"}
    assert terms <= set(rows(tuned)[-1])
    assert not any("critic" in name or "maps" in name for name in tuned.model.state_dict())


def test_refinements_samples_are_drawn_from_the_prior(
    vae: Run, celeba: Path, tmp_path: Path
) -> None:
    start = f"start_from='{vae.paths.folder}'"
    config = tiny(celeba, "celeba-vae-sharp", start, "model.head_width=4", "ema_decay=0")

    tuned = train_run(config, tmp_path / "tuned", device="cpu", threads=1)

    random = np.random.default_rng(config.seed)
    noise = random.standard_normal((config.picture_count, 4), dtype=np.float32)
    latents = vae.prior.sample(noise, random.random(config.picture_count, dtype=np.float32))
    drawn = decode_latents(tuned.model, latents)
    last = sorted(tuned.paths.pictures.glob("samples-*.png"))[-1]
    across = round(config.picture_count**0.5)
    with Image.open(last) as picture:
        np.testing.assert_array_equal(np.asarray(picture), picture_grid(drawn, across).squeeze())


def test_refinement_begins_where_the_run_ended(vae: Run, celeba: Path, tmp_path: Path) -> None:
    config = tiny(
        celeba,
        "celeba-vae-sharp",
        f"start_from='{vae.paths.folder}'",
        "model.head_width=0",
        "model.grain=false",
        "optimizer.learning_rate=1e-12",
        "ema_decay=0",
    )

    tuned = train_run(config, tmp_path / "tuned", device="cpu", threads=1)

    for name, weights in tuned.model.decoder.named_parameters():
        torch.testing.assert_close(weights, vae.model.decoder.get_parameter(name))


def test_refinement_needs_a_run_to_start_from(celeba: Path) -> None:
    with pytest.raises(ConfigurationError, match="give start_from"):
        tiny(celeba, "celeba-vae-sharp", "start_from=''")


def test_fine_tuning_refuses_another_model(vae: Run, celeba: Path, tmp_path: Path) -> None:
    config = tiny(
        celeba, "celeba-vae-sharp", f"start_from='{vae.paths.folder}'", "model.latent_size=5"
    )

    with pytest.raises(RunError, match="its model differs"):
        train_run(config, tmp_path / "tuned", device="cpu", threads=1)
