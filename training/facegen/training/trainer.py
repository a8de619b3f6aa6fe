"""Trains a recipe into a run folder, from the start or from where it was cut off."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import save
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from facegen.training.callbacks import (
    FiniteGuard,
    History,
    LearningRate,
    MovingAverage,
    Record,
    draw_curves,
    run_facts,
)
from facegen.training.config import config_to_toml
from facegen.training.errors import ConfigurationError
from facegen.training.memory import keep_freed_memory
from facegen.training.plan import Plan, plan_training
from facegen.training.recipes import (
    AlignerRecipe,
    AnyRecipe,
    ClassifierRecipe,
    ExpressionRecipe,
    TrainConfig,
)
from facegen.training.resumption import checkpoint_to_resume
from facegen.training.run import (
    AlignerRun,
    AnyRun,
    ClassifierRun,
    ExpressionRun,
    Run,
    RunPaths,
    load_any_run,
)

__all__ = ["train_run"]

_log = logging.getLogger(__name__)


class _Options(TypedDict, total=False):
    resume: bool
    device: str
    threads: int | None
    progress: bool


@overload
def train_run(config: TrainConfig, folder: Path, **options: Unpack[_Options]) -> Run: ...


@overload
def train_run(
    config: ClassifierRecipe, folder: Path, **options: Unpack[_Options]
) -> ClassifierRun: ...


@overload
def train_run(
    config: ExpressionRecipe, folder: Path, **options: Unpack[_Options]
) -> ExpressionRun: ...


@overload
def train_run(config: AlignerRecipe, folder: Path, **options: Unpack[_Options]) -> AlignerRun: ...


@overload
def train_run(config: AnyRecipe, folder: Path, **options: Unpack[_Options]) -> AnyRun: ...


def train_run(
    config: AnyRecipe,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = False,
) -> AnyRun:
    """Train a recipe.

    A folder that holds an unfinished run of the same recipe is resumed, and ends as if it had not
    been cut off: bit by bit on the CPU with the same number of threads.

    Args:
        config: The recipe; its kind decides what is trained.
        folder: The run folder; made if it is not there.
        resume: Insist that there is a checkpoint to resume from.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None takes as many as this process may use CPUs.
        progress: Show progress on stderr.

    Returns:
        The finished run, of the recipe's kind.

    Raises:
        ConfigurationError: CUDA asked for and not there, or an impossible model.
        DatasetError: The data is missing or broken.
        RunError: The folder holds a finished run or another recipe, or nothing to resume; or the
            run to start from or a guide is not finished, or does not fit.
        DivergedError: An epoch's loss was far above the first step's.
        NonFiniteError: The loss or a gradient was not finite; the last good checkpoint stays.
    """
    paths = RunPaths(folder)
    accelerator = _accelerator(device)
    checkpoint = checkpoint_to_resume(paths, config, resume=resume)
    keep_freed_memory()
    plan = plan_training(config, paths)
    folder.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(config_to_toml(config), "utf-8")
    with _threads(threads or len(os.sched_getaffinity(0))), _quiet_lightning():
        facts = run_facts(seed=config.seed, accelerator=accelerator) | dict(plan.facts)
        record = Record(paths.facts, facts, resumed=checkpoint is not None)
        history = History(paths.table)
        callbacks = _callbacks(config, paths, plan, history=history, record=record)
        trainer = _trainer(
            config, paths, callbacks=callbacks, accelerator=accelerator, progress=progress
        )
        trainer.fit(
            plan.module, plan.train, plan.validation, ckpt_path=checkpoint, weights_only=True
        )
        draw_curves(history.rows, paths.pictures / "losses.png", panels=plan.panels)
        _finish(plan, paths)
        record.write(finished=True)
    return load_any_run(folder)


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


def _callbacks(
    config: AnyRecipe, paths: RunPaths, plan: Plan, *, history: History, record: Record
) -> list[Callback]:
    checkpoint = ModelCheckpoint(
        paths.checkpoint.parent,
        filename=paths.checkpoint.stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [
        FiniteGuard(paths.checkpoint, clip_norm=config.optimizer.gradient_clip_norm),
        LearningRate(config.optimizer.learning_rate),
        *plan.pictures,  # before the average, whose validation hook swaps the plain weights back
        MovingAverage(config.ema_decay),
        history,
        record,
        checkpoint,
    ]


def _trainer(
    config: AnyRecipe,
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
        callbacks=callbacks,
        logger=TensorBoardLogger(paths.folder, name=paths.metrics_folder.name, version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def _precision(config: AnyRecipe, accelerator: str) -> Any:
    wanted = config.precision
    if wanted == "auto":
        half = accelerator == "cuda" and torch.cuda.is_bf16_supported()
        wanted = "bf16" if half else "32"
    return {"32": "32-true", "bf16": "bf16-mixed"}[wanted]


def _finish(plan: Plan, paths: RunPaths) -> None:
    # The checkpoint's state_dict is the average; a run that was cut off after its last epoch has it
    # nowhere else.
    state = torch.load(paths.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    plan.module.load_state_dict(state)
    model = plan.model.eval()
    if plan.fit:
        plan.fit().save(paths)
    # Copied, because the file has no shared tensors.
    weights = {name: value.cpu().contiguous().clone() for name, value in model.state_dict().items()}
    temporary = paths.weights.with_suffix(".tmp")
    temporary.write_bytes(save(weights))  # save_file would leave it readable to its owner alone
    temporary.replace(paths.weights)
