"""Trains a recipe into a run folder, from the start or from where it was cut off."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import save
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs
from torch.utils.data import DataLoader, Sampler

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
from facegen.training.launching import Team
from facegen.training.memory import keep_freed_memory
from facegen.training.plan import Plan, plan_training
from facegen.training.processes import OwnRows
from facegen.training.recipes import (
    AlignerRecipe,
    AnyRecipe,
    ClassifierRecipe,
    ExpressionRecipe,
    MeshRecipe,
    TrainConfig,
)
from facegen.training.resumption import checkpoint_to_resume
from facegen.training.run import (
    AlignerRun,
    AnyRun,
    ClassifierRun,
    ExpressionRun,
    MeshRun,
    Run,
    RunPaths,
    load_any_run,
)
from facegen.training.shared_norms import SharedNorms

__all__ = ["train_run"]

_log = logging.getLogger(__name__)


class _Options(TypedDict, total=False):
    resume: bool
    device: str
    devices: int
    num_nodes: int
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
def train_run(config: MeshRecipe, folder: Path, **options: Unpack[_Options]) -> MeshRun: ...


@overload
def train_run(config: AnyRecipe, folder: Path, **options: Unpack[_Options]) -> AnyRun: ...


def train_run(
    config: AnyRecipe,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    threads: int | None = None,
    progress: bool = False,
) -> AnyRun:
    """Train a recipe.

    A folder that holds an unfinished run of the same recipe is resumed, and ends as if it had not
    been cut off: bit by bit on the CPU with the same number of threads and processes.

    Several devices have a process each, which shares every batch with the others; a script that
    asks for them needs Python's `if __name__ == "__main__"`. See `launching.Team` for several
    machines.

    Args:
        config: The recipe; its kind decides what is trained.
        folder: The run folder; made if it is not there.
        resume: Insist that there is a checkpoint to resume from.
        device: "auto", "cpu" or "cuda".
        devices: GPUs to train on together; on the CPU, processes.
        num_nodes: Machines, each with as many devices, that share the run folder's file system.
        threads: CPU threads of each process; None shares out the CPUs that this one may use.
        progress: Show progress on stderr.

    Returns:
        The finished run, of the recipe's kind.

    Raises:
        ConfigurationError: CUDA or more devices asked for than are there, an impossible model, or
            a batch that the processes cannot share evenly.
        DatasetError: The data is missing or broken.
        RunError: The folder holds a finished run or another recipe, or nothing to resume; or the
            run to start from or a guide is not finished, or does not fit.
        DivergedError: An epoch's loss was far above the first step's.
        NonFiniteError: The loss or a gradient was not finite; the last good checkpoint stays.
        ProcessError: One of several processes was killed; right when the reason is gone.
    """
    paths, team = RunPaths(folder), Team(devices, num_nodes)
    accelerator = _accelerator(device)
    team.check(accelerator)
    own_threads = threads or max(1, len(os.sched_getaffinity(0)) // devices)
    checkpoint = checkpoint_to_resume(paths, config, resume=resume)
    job = _Job(config, paths, team, accelerator, own_threads, checkpoint, progress)
    if not team.started:
        # What is wrong is said here, once, and what is decoded is decoded once.
        _shared(plan_training(config, paths).train, rank=0, count=team.count)
    team.start(_train, job, threads=own_threads)
    return load_any_run(folder)


@dataclass(frozen=True, slots=True)
class _Job:
    """What every process of a training is told."""

    config: AnyRecipe
    paths: RunPaths
    team: Team
    accelerator: str
    threads: int
    checkpoint: Path | None
    progress: bool


def _train(job: _Job) -> None:
    """Train in this process, alone or as one of several; the first one writes the run folder."""
    keep_freed_memory()
    try:
        _train_share(job)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _train_share(job: _Job) -> None:
    config, paths = job.config, job.paths
    plan = plan_training(config, paths)
    with _threads(job.threads), _quiet_lightning():
        facts = run_facts(seed=config.seed, accelerator=job.accelerator)
        facts["precision"] = _precision(config, job.accelerator)
        facts |= {"processes": job.team.count, **plan.facts}
        record = Record(paths.facts, facts, resumed=job.checkpoint is not None)
        history = History(paths.table)
        trainer = _trainer(job, _callbacks(config, paths, plan, history=history, record=record))
        if trainer.is_global_zero:
            _write_config(config, paths)
        trainer.fit(
            plan.module,
            _shared(plan.train, rank=trainer.global_rank, count=trainer.world_size),
            _shared(plan.validation, rank=trainer.global_rank, count=trainer.world_size),
            ckpt_path=job.checkpoint,
            weights_only=True,
        )
        if trainer.is_global_zero:
            draw_curves(history.rows, paths.pictures / "losses.png", panels=plan.panels)
            _finish(plan, paths)
            record.write(finished=True)
        trainer.strategy.barrier()


def _shared(loader: DataLoader[Any], *, rank: int, count: int) -> DataLoader[Any]:
    """The rows of each batch that are this process's."""
    if count == 1:
        return loader
    assert isinstance(loader.sampler, Sampler)
    order = OwnRows(loader.sampler, rank=rank, count=count)
    return DataLoader(loader.dataset, sampler=order, batch_size=None)


def _write_config(config: AnyRecipe, paths: RunPaths) -> None:
    paths.folder.mkdir(parents=True, exist_ok=True)
    temporary = paths.config.with_suffix(".tmp")
    temporary.write_text(config_to_toml(config), "utf-8")
    temporary.replace(paths.config)


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
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
            warnings.filterwarnings("ignore", message=r".*does not have many workers")
            warnings.filterwarnings("ignore", message=r".*is smaller than the logging interval")
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* is not empty")
            warnings.filterwarnings("ignore", message=r"`broadcast_buffers` is deprecated")
            warnings.filterwarnings("ignore", message=r"Grad strides do not match bucket view")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


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


def _trainer(job: _Job, callbacks: list[Callback]) -> Trainer:
    config = job.config
    if job.progress:
        callbacks = [*callbacks, RichProgressBar(leave=True, console_kwargs={"stderr": True})]
    return Trainer(
        accelerator=job.accelerator,
        devices=job.team.devices,
        num_nodes=job.team.num_nodes,
        **_sharing(job),
        precision=_precision(config, job.accelerator),
        max_epochs=config.epochs,
        callbacks=callbacks,
        logger=TensorBoardLogger(job.paths.folder, name=job.paths.metrics_folder.name, version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=job.progress,
        enable_model_summary=False,
    )


def _sharing(job: _Job) -> dict[str, Any]:
    """How Lightning has several processes share gradients and normalisation's statistics."""
    if job.team.count == 1:
        return {}
    strategy = DDPStrategy(
        cluster_environment=job.team.environment(),
        broadcast_buffers=False,  # with shared statistics they are the same everywhere
    )
    if job.accelerator == "cuda":
        return {"strategy": strategy, "sync_batchnorm": True}
    return {"strategy": strategy, "plugins": [SharedNorms()]}


def _precision(config: AnyRecipe, accelerator: str) -> Literal["32-true", "bf16-mixed"]:
    wanted = config.precision
    bf16 = wanted == "bf16" or (wanted == "auto" and _multiplies_bf16(accelerator))
    return "bf16-mixed" if bf16 else "32-true"


def _multiplies_bf16(accelerator: str) -> bool:
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


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
