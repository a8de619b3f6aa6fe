"""Trains a recipe into a run folder, from the start or from where it was cut off."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import save
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from facegen.training.batches import batch_loader
from facegen.training.callbacks import (
    FiniteGuard,
    History,
    MovingAverage,
    Pictures,
    Record,
    draw_curves,
    run_facts,
)
from facegen.training.config import TrainConfig, config_to_toml
from facegen.training.data import FaceArrays, load_faces
from facegen.training.errors import ConfigurationError, RunError
from facegen.training.latents import encode_pictures
from facegen.training.module import AutoencoderModule
from facegen.training.prior import fit_mixture
from facegen.training.resumption import checkpoint_to_resume
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
    progress: bool = False,
) -> Run:
    """Train a recipe.

    A folder that holds an unfinished run of the same recipe is resumed, and ends as if it had not
    been cut off: bit by bit on the CPU with the same number of threads.

    Args:
        config: The recipe.
        folder: The run folder; made if it is not there.
        resume: Insist that there is a checkpoint to resume from.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None takes as many as this process may use CPUs.
        progress: Show progress on stderr.

    Returns:
        The finished run.

    Raises:
        ConfigurationError: CUDA asked for and not there, or an impossible model.
        DatasetError: The data is missing or broken.
        RunError: The folder holds a finished run or another recipe, or nothing to resume; or the
            run to start from is not finished, or has another model.
        NonFiniteError: The loss or a gradient was not finite; the last good checkpoint stays.
    """
    paths = RunPaths(folder)
    accelerator = _accelerator(device)
    checkpoint = checkpoint_to_resume(paths, config, resume=resume)
    start = load_run(config.start_from) if config.start_from else None
    module = _module(config, start)
    faces = load_faces(
        config.data.reader,
        Path(config.data.root),
        size_px=config.model.image_size,
        channels=config.model.channels,
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(config_to_toml(config), "utf-8")
    with _threads(threads or len(os.sched_getaffinity(0))), _quiet_lightning():
        facts = run_facts(faces, seed=config.seed, accelerator=accelerator)
        if start:
            facts |= {"start_seconds": start.seconds}
        record = Record(paths.facts, facts, resumed=checkpoint is not None)
        history = History(paths.table)
        callbacks = _callbacks(config, paths, faces=faces, history=history, record=record)
        trainer = _trainer(
            config, paths, callbacks=callbacks, accelerator=accelerator, progress=progress
        )
        trainer.fit(
            module,
            batch_loader(faces.pixels["train"], config.batch_size, seed=config.seed),
            batch_loader(faces.pixels["validation"], _VALIDATION_BATCH_SIZE),
            ckpt_path=checkpoint,
            weights_only=True,
        )
        draw_curves(history.rows, paths.pictures / "losses.png")
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


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and its use of deprecated PyTorch names off the screen."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
            warnings.filterwarnings("ignore", message=r".*does not have many workers")
            warnings.filterwarnings("ignore", message=r".*is smaller than the logging interval")
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* is not empty")
            yield
    finally:
        logger.setLevel(before)


def _module(config: TrainConfig, start: Run | None) -> AutoencoderModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            module = AutoencoderModule(config)
        except ValueError as error:
            raise ConfigurationError("model", str(error)) from error
    if start:
        if start.config.model != config.model:
            raise RunError(
                start.paths.folder, "its model differs; start from one with this recipe's"
            )
        module.model.load_state_dict(start.model.state_dict())
    if config.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if config.compile:
        module.model.compile()
    return module


def _callbacks(
    config: TrainConfig,
    paths: RunPaths,
    *,
    faces: FaceArrays,
    history: History,
    record: Record,
) -> list[Callback]:
    pictures = Pictures(
        paths.pictures,
        faces.pixels["train"],
        validation=faces.pixels["validation"],
        count=config.picture_count,
        seed=config.seed,
    )
    checkpoint = ModelCheckpoint(
        paths.checkpoint.parent,
        filename=paths.checkpoint.stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [
        FiniteGuard(paths.checkpoint),
        pictures,  # before the average, whose validation hook swaps the plain weights back
        MovingAverage(config.ema_decay),
        history,
        record,
        checkpoint,
    ]


def _trainer(
    config: TrainConfig,
    paths: RunPaths,
    *,
    callbacks: list[Callback],
    accelerator: str,
    progress: bool,
) -> Trainer:
    if progress:
        callbacks = [*callbacks, RichProgressBar(leave=True, console_kwargs={"stderr": True})]
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
    )


def _precision(config: TrainConfig, accelerator: str) -> Any:
    wanted = config.precision
    if wanted == "auto":
        half = accelerator == "cuda" and torch.cuda.is_bf16_supported()
        wanted = "bf16" if half else "32"
    return {"32": "32-true", "bf16": "bf16-mixed"}[wanted]


def _finish(
    module: AutoencoderModule, config: TrainConfig, paths: RunPaths, *, faces: FaceArrays
) -> None:
    # The checkpoint's state_dict is the average; a run that was cut off after its last epoch has it
    # nowhere else.
    state = torch.load(paths.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    model = module.model.eval()
    latents = encode_pictures(
        model,
        faces.pixels["train"],
        seed=config.seed if config.prior.latents == "samples" else None,
        flip=config.prior.flip,
    )
    _log.info("fitting the prior latents=%d", len(latents))
    prior = fit_mixture(
        latents,
        config.prior.components,
        candidates=config.prior.candidates,
        seed=config.seed,
    )
    prior.save(paths.prior)
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    temporary = paths.weights.with_suffix(".tmp")
    temporary.write_bytes(save(weights))  # save_file would leave it readable to its owner alone
    temporary.replace(paths.weights)
