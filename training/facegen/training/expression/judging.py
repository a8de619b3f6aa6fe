"""What a judge that training has not seen says of faces: is the wanted expression reached?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.expression.distortions import DISTORTIONS
from facegen.training.expression.sources import LabelledFaces, Pixels
from facegen.training.expression.transferring import Transfer

__all__ = ["Judge", "measure_judge", "measure_robustness", "measure_targets", "rate"]


@dataclass(frozen=True, slots=True)
class Judge:
    """Tells expressions apart.

    Attributes:
        expressions: What it can say, K names.
        probabilities: (N, H, W, C) uint8 to (N, K).
        description: What it is and what it was trained on, for the protocol.
    """

    expressions: tuple[str, ...]
    probabilities: Callable[[Pixels], NDArray[np.floating]]
    description: str

    def verdicts(self, images: Pixels) -> NDArray[np.str_]:
        """The most probable expression of each picture, (N,)."""
        names = np.array(self.expressions)
        return names[self.probabilities(images).argmax(axis=1)] if len(images) else names[:0]


def rate(verdicts: NDArray[np.str_], target: str) -> float:
    """How often the verdict is the target; NaN without verdicts."""
    return float((verdicts == target).mean()) if len(verdicts) else float("nan")


def measure_targets(
    transfer: Transfer,
    judge: Judge,
    sources: LabelledFaces,
    edited: Mapping[str, Pixels],
    averaged: Sequence[str],
    *,
    strengths: Sequence[float],
) -> dict[str, Any]:
    """Measure how often edits are taken for what they should show.

    Args:
        transfer: Edits faces.
        judge: Says what is seen.
        sources: The faces to edit.
        edited: By target, those of other expressions, in order, edited at strength 1.
        averaged: The targets that the means go over.
        strengths: Further strengths to measure at, and 1.

    Returns:
        `target_rate` by strength, `floor`, each with `mean` and `by_expression`; at strength 1
        the `confusion` by target and the rate `by_source` expression.
    """
    others = {name: sources.take(sources.expressions != name) for name in edited}
    verdicts = {name: judge.verdicts(images) for name, images in edited.items()}
    rates: dict[str, Any] = {}
    for strength in sorted({*strengths, 1.0}):
        found = {}
        for name, before in others.items():
            if strength == 1.0:
                found[name] = rate(verdicts[name], name)
            else:
                images = transfer(before.pixels, name, strength).images
                found[name] = rate(judge.verdicts(images), name)
        rates[f"{strength:g}"] = _averaged(found, averaged)
    unchanged = judge.verdicts(sources.pixels)
    nothing = {name: rate(unchanged[sources.expressions != name], name) for name in edited}
    return {
        "target_rate": rates,
        "floor": _averaged(nothing, averaged),
        "confusion": {
            name: {seen: rate(verdicts[name], seen) for seen in judge.expressions}
            for name in edited
        },
        "by_source": {
            name: {
                shown: rate(verdicts[name][before.expressions == shown], name)
                for shown in dict.fromkeys(before.expressions.tolist())
            }
            for name, before in others.items()
        },
    }


def measure_judge(judge: Judge, real: LabelledFaces, averaged: Sequence[str]) -> dict[str, Any]:
    """Measure how often the judge is right about real faces: no transfer is asked for more.

    Args:
        judge: Says what is seen.
        real: Faces that it was not trained on.
        averaged: The expressions that the mean goes over.

    Returns:
        `ceiling` with `mean` and `by_expression`, and the `real_confusion`.
    """
    verdicts = judge.verdicts(real.pixels)
    shown = [name for name in judge.expressions if name in real.expressions]
    right = {name: rate(verdicts[real.expressions == name], name) for name in shown}
    return {
        "ceiling": _averaged(right, averaged),
        "real_confusion": {
            name: {
                seen: rate(verdicts[real.expressions == name], seen) for seen in judge.expressions
            }
            for name in shown
        },
    }


def measure_robustness(
    judge: Judge, edited: Mapping[str, Pixels], real: LabelledFaces, averaged: Sequence[str]
) -> dict[str, Any]:
    """Measure target rates after every distortion, beside the judge's accuracy after it.

    Args:
        judge: Says what is seen.
        edited: By target, (N, H, W, C).
        real: Real faces with their expressions.
        averaged: The targets that the means go over.

    Returns:
        By distortion: `mean`, `by_expression`, and the `ceiling`, the mean for real faces.
    """
    found = {}
    for name, distort in DISTORTIONS.items():
        rates = {
            target: rate(judge.verdicts(distort(images)), target)
            for target, images in edited.items()
        }
        worn = LabelledFaces(distort(real.pixels), real.expressions)
        ceiling = measure_judge(judge, worn, averaged)["ceiling"]["mean"]
        found[name] = {**_averaged(rates, averaged), "ceiling": ceiling}
    return found


def _averaged(rates: Mapping[str, float], averaged: Sequence[str]) -> dict[str, Any]:
    return {
        "mean": float(np.mean([rates[name] for name in averaged])),
        "by_expression": dict(rates),
    }
