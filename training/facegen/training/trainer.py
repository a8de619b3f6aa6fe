"""Trains a recipe into a run folder, from the start or from where it was cut off."""

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from facegen.training.batches import batch_loader
from facegen.training.callbacks import FiniteGuard, History, MovingAverage, Pictures, Record
from facegen.training.config import TrainConfig, config_to_toml, read_toml
from facegen.training.data import FaceArrays, load_faces
from facegen.training.errors import ConfigurationError, RunError
from facegen.training.latents import encode_pictures
from facegen.training.module import AutoencoderModule
from facegen.training.prior import fit_mixture
from facegen.training.run import Run, RunPaths, load_run

__all__ = ["train_run"]

_VALIDATION_BATCH_SIZE = 128

_log = logging.getLogger(__name__)


def train_run(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = True,
) -> Run:
    """Train a recipe.

    A folder that holds an unfinished run of the same recipe is resumed, and ends as if it had not been cut
    off: bit by bit on the CPU with the same number of threads.

    Args:
        config: The recipe.
        folder: The run folder; made if it is not there.
        resume: Insist that there is a checkpoint to resume from.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None takes those this process may use.
        progress: Show progress on stderr.

    Returns:
        The finished run.

    Raises:
        ConfigurationError: CUDA asked for and not there, or an impossible model.
        DatasetError: The data is missing or broken.
        RunError: The folder holds a finished run or another recipe, or nothing to resume.
        NonFiniteError: The loss or a gradient was not finite; the last good checkpoint stays.
    """
    paths = RunPaths(folder)
    accelerator = _accelerator(device)
    checkpoint = _checkpoint_to_resume(paths, config, resume=resume)
    faces = load_faces(
        config.data.reader,
        Path(config.data.root),
        size_px=config.model.image_size,
        channels=config.model.channels,
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(config_to_toml(config), "utf-8")
    with _threads(threads or len(os.sched_getaffinity(0))):
        record = _record(paths, config, faces, accelerator=accelerator)
        module = _module(config)
        trainer = _trainer(
            config, paths, faces=faces, record=record, accelerator=accelerator, progress=progress
        )
        trainer.fit(
            module,
            batch_loader(faces.pixels["train"], config.batch_size, seed=config.seed),
            batch_loader(faces.pixels["validation"], _VALIDATION_BATCH_SIZE),
            ckpt_path=checkpoint,
            weights_only=True,
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        _finish(module, config, paths, faces=faces)
        record.write(finished=True)
    return load_run(folder)


def _accelerator(device: str) -> str:
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigurationError("--device", "cuda was asked for, but PyTorch sees no CUDA device")
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError("--device", f'"{device}" is not auto, cpu or cuda')
    return "cuda" if device == "cuda" or (device == "auto" and available) else "cpu"


def _checkpoint_to_resume(paths: RunPaths, config: TrainConfig, *, resume: bool) -> Path | None:
    if paths.config.is_file():
        old = read_toml(paths.config.read_text("utf-8"), source=str(paths.config))
        changed = _changed_keys(old, config)
        if paths.weights.is_file():
            raise RunError(paths.folder, "already finished; choose another --name or delete it")
        if changed and paths.checkpoint.is_file():
            raise RunError(
                paths.folder,
                f"holds an unfinished run with other values of {', '.join(changed)}; "
                "give the same ones, choose another --name, or delete it",
            )
    if paths.checkpoint.is_file():
        _log.warning("resuming an unfinished run checkpoint=%s", paths.checkpoint)
        return paths.checkpoint
    if resume:
        raise RunError(
            paths.folder, "nothing to resume: no checkpoints/last.ckpt; train without --resume"
        )
    return None


def _changed_keys(old: TrainConfig, new: TrainConfig) -> list[str]:
    def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    before, after = dict(flat(old.model_dump())), dict(flat(new.model_dump()))
    return [k for k in after if before[k] != after[k] and k not in ("data.root", "description")]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def _module(config: TrainConfig) -> AutoencoderModule:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        try:
            module = AutoencoderModule(config)
        except ValueError as error:
            raise ConfigurationError("model", str(error)) from error
    if config.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if config.compile:
        module.model.compile()
    return module


def _trainer(
    config: TrainConfig,
    paths: RunPaths,
    *,
    faces: FaceArrays,
    record: Record,
    accelerator: str,
    progress: bool,
) -> Trainer:
    callbacks: list[Callback] = [
        FiniteGuard(paths.checkpoint),
        # Before the average: its validation hook swaps the plain weights back.
        Pictures(
            paths.pictures,
            faces.pixels["train"],
            validation=faces.pixels["validation"],
            count=config.picture_count,
            seed=config.seed,
        ),
        MovingAverage(config.ema_decay),
        History(paths.table, paths.pictures / "losses.png"),
        record,
        ModelCheckpoint(
            paths.checkpoint.parent,
            filename=paths.checkpoint.stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    if progress:
        callbacks.append(RichProgressBar(leave=True))
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=_precision(config, accelerator),
        max_epochs=config.epochs,
        gradient_clip_val=config.optimizer.gradient_clip_norm or None,
        callbacks=callbacks,
        logger=TensorBoardLogger(paths.folder, name=paths.metrics_folder.name, version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        deterministic="warn" if accelerator == "cuda" else True,
    )


def _precision(config: TrainConfig, accelerator: str) -> Any:
    wanted = config.precision
    if wanted == "auto":
        half = accelerator == "cuda" and torch.cuda.is_bf16_supported()
        wanted = "bf16" if half else "32"
    return {"32": "32-true", "bf16": "bf16-mixed"}[wanted]


def _record(paths: RunPaths, config: TrainConfig, faces: FaceArrays, *, accelerator: str) -> Record:
    import json

    earlier: dict[str, Any] = {}
    if paths.facts.is_file() and paths.checkpoint.is_file():
        earlier = json.loads(paths.facts.read_text("utf-8"))
    facts = {
        "commit": _commit(),
        "seed": config.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "device": torch.cuda.get_device_name() if accelerator == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "train_pictures": len(faces.pixels["train"]),
        "validation_pictures": len(faces.pixels["validation"]),
        "corrupt_pictures": list(faces.corrupt),
        "dropped_pictures": faces.dropped_count,
        "crop": faces.dataset.crop,
        "finished": False,
    }
    facts |= {"started": earlier.get("started", facts["started"])}
    return Record(paths.facts, facts, seconds=float(earlier.get("seconds", 0.0)))


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _finish(
    module: AutoencoderModule, config: TrainConfig, paths: RunPaths, *, faces: FaceArrays
) -> None:
    model = module.model.eval()
    recipe = config.prior
    latents = encode_pictures(
        model,
        faces.pixels["train"],
        seed=config.seed if recipe.latents == "samples" else None,
        flip=recipe.flip,
    )
    _log.info("fitting the prior latents=%d", len(latents))
    prior = fit_mixture(latents, recipe.components, candidates=recipe.candidates, seed=config.seed)
    prior.save(paths.prior)
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    temporary = paths.weights.with_suffix(".tmp")
    save_file(weights, temporary)
    temporary.replace(paths.weights)
