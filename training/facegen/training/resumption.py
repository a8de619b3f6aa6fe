"""Whether a run folder may be trained into, and from which checkpoint."""

import logging
from pathlib import Path
from typing import Any

from facegen.training.config import read_toml
from facegen.training.errors import RunError
from facegen.training.recipes import AnyRecipe
from facegen.training.run import RunPaths

__all__ = ["checkpoint_to_resume"]

_MAY_CHANGE = frozenset(
    {"data.root", "description", "optimizer.gradient_clip_norm", "optimizer.learning_rate"}
)

_log = logging.getLogger(__name__)


def checkpoint_to_resume(paths: RunPaths, config: AnyRecipe, *, resume: bool) -> Path | None:
    """Find the checkpoint that a training of this recipe has to go on from.

    Args:
        paths: The run folder.
        config: The recipe that is asked for.
        resume: There must be one.

    Returns:
        The checkpoint; None to begin from the start.

    Raises:
        RunError: The folder holds a finished run or another recipe, or has nothing to resume.
    """
    if paths.weights.is_file():
        raise RunError(paths.folder, "already finished; choose another --name or delete the folder")
    if not paths.checkpoint.is_file():
        if resume:
            raise RunError(
                paths.folder, "nothing to resume: no checkpoints/last.ckpt; leave --resume out"
            )
        return None
    old = read_toml(paths.config.read_text("utf-8"), source=str(paths.config))
    changed = _changed_keys(old.model_dump(), config.model_dump())
    if changed:
        raise RunError(
            paths.folder,
            f"holds an unfinished run of {', '.join(changed)}; give the same values to resume it, "
            "choose another --name, or delete the folder",
        )
    _log.warning("resuming an unfinished run checkpoint=%s", paths.checkpoint)
    return paths.checkpoint


def _changed_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for name, value in new.items():
        key, before = prefix + name, old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            changed += _changed_keys(before, value, f"{key}.")
        elif before != value and key not in _MAY_CHANGE:
            changed.append(f"{key} = {before!r}, not {value!r}")
    return changed
