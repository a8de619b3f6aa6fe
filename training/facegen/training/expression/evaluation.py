"""Measures an expression model: reached expressions, identity, realism, and what it changes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facegen.training.expression.change import ChangeMaps, change_maps, measure_change
from facegen.training.expression.identity import (
    IDENTITY_NETWORK,
    IdentityNetwork,
    Query,
    measure_identity,
)
from facegen.training.expression.judging import (
    Judge,
    measure_judge,
    measure_robustness,
    measure_targets,
)
from facegen.training.expression.model import EXPRESSIONS
from facegen.training.expression.realism import measure_realism
from facegen.training.expression.sources import LabelledFaces, Pixels, choose_sources
from facegen.training.expression.transferring import Transfer, Transferred
from facegen.training.features import FEATURE_NETWORK, FeatureNetwork

__all__ = ["Evaluation", "Protocol", "evaluate_expressions", "headline"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What an evaluation takes.

    Attributes:
        source_count: Faces to edit, at most.
        identity_count: The sources, the first of them, whose edits are embedded, at most.
        realism_count: The most faces of a set of which features are compared.
        strengths: Of the edits; all but the target rates are measured at 1.
        seed: Decides which faces are taken.
        faces: What they are, for the sentence that tells it.
    """

    source_count: int = 1000
    identity_count: int = 200
    realism_count: int = 200
    strengths: tuple[float, ...] = (0.5, 1.0, 1.25)
    seed: int = 20_130_706
    faces: str = "held-out faces"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        results: Everything, ready for JSON.
        maps: Where edits change faces, by expression.
        sources: The faces that were edited, in their order.
    """

    results: dict[str, Any]
    maps: Mapping[str, ChangeMaps]
    sources: LabelledFaces


@dataclass(frozen=True, slots=True)
class _Edits:
    """The sources of other expressions of every target, and their edits at strength 1."""

    sources: LabelledFaces
    rows: Mapping[str, NDArray[np.intp]]
    edited: Mapping[str, Transferred]

    def before(self, target: str) -> Pixels:
        return self.sources.pixels[self.rows[target]]

    @property
    def images(self) -> dict[str, Pixels]:
        return {target: it.images for target, it in self.edited.items()}

    def queries(self, count: int) -> dict[str, Query]:
        """The edits of the first `count` sources."""
        return {
            target: Query(self.edited[target].images[rows < count], rows[rows < count])
            for target, rows in self.rows.items()
        }


def evaluate_expressions(
    transfer: Transfer,
    expressions: Sequence[str],
    *,
    faces: LabelledFaces,
    judge: Judge,
    identity: IdentityNetwork,
    features: FeatureNetwork,
    protocol: Protocol,
) -> Evaluation:
    """Measure a transfer of expressions on faces that its training has not seen.

    Means go over the supported expressions; further ones are measured beside them, and those
    that the judge cannot name are left out.

    Args:
        transfer: Edits faces.
        expressions: What it can give them.
        faces: Held-out faces, for sources and to compare with; some of every supported expression.
        judge: Not used in training.
        identity: Tells people apart.
        features: Tells how alike sets of faces are.
        protocol: Counts, strengths and seed.
    """
    targets = [name for name in expressions if name in judge.expressions]
    averaged = [name for name in targets if name in EXPRESSIONS]
    sources = choose_sources(faces, protocol.source_count, expressions=averaged, seed=protocol.seed)
    edits = _edit(transfer, sources, targets)
    judged = {
        **measure_targets(
            transfer, judge, sources, edits.images, averaged, strengths=protocol.strengths
        ),
        **measure_judge(judge, faces, averaged),
        "robustness": measure_robustness(judge, edits.images, faces, averaged),
    }
    _log.info("judged target_rate=%.3f", judged["target_rate"]["1"]["mean"])
    recognised = measure_identity(
        identity,
        sources.pixels,
        edits.queries(protocol.identity_count),
        blurred_count=protocol.identity_count,
    )
    _log.info("recognised same_person_rate=%.3f", recognised["same_person_rate"])
    realism = measure_realism(
        features, edits.images, sources, faces, limit=protocol.realism_count, seed=protocol.seed
    )
    few = sources.pixels[:50]
    results = {
        "expressions": targets,
        "averaged": averaged,
        "not_judged": [name for name in expressions if name not in targets],
        "seed": protocol.seed,
        "faces": protocol.faces,
        "counts": _counts(edits, faces),
        **judged,
        "identity": recognised,
        "realism": realism,
        "change": {
            name: measure_change(edits.before(name), edits.edited[name]) for name in targets
        },
        "exact_at_strength_0": all(
            np.array_equal(transfer(few, name, 0.0).images, few) for name in targets
        ),
        "networks": {
            "judge": judge.description,
            "features": {"name": FEATURE_NETWORK, "sha256": features.sha256},
            "identity": {"name": IDENTITY_NETWORK, "sha256": identity.sha256},
        },
    }
    results["protocol"] = _sentence(results)
    maps = {name: change_maps(edits.before(name), edits.edited[name]) for name in targets}
    return Evaluation(results, maps, sources)


def _edit(transfer: Transfer, sources: LabelledFaces, targets: Sequence[str]) -> _Edits:
    rows = {name: np.flatnonzero(sources.expressions != name) for name in targets}
    edited: dict[str, Transferred] = {}
    for name in targets:
        edited[name] = transfer(sources.pixels[rows[name]], name, 1.0)
        _log.info("transferred expression=%s faces=%d", name, len(rows[name]))
    return _Edits(sources, rows, edited)


def _counts(edits: _Edits, faces: LabelledFaces) -> dict[str, Any]:
    return {
        "sources": len(edits.sources),
        "sources_by_expression": edits.sources.counts(list(edits.rows)),
        "edited_by_expression": {name: len(rows) for name, rows in edits.rows.items()},
        "real": len(faces),
        "real_by_expression": faces.counts(list(edits.rows)),
    }


def headline(results: Mapping[str, Any]) -> dict[str, float | str]:
    """The numbers that a card shows, by name, and their `protocol`."""
    averaged: list[str] = results["averaged"]
    identity, realism, change = (results[key] for key in ("identity", "realism", "change"))

    def mean(table: Mapping[str, Mapping[str, float]], key: str) -> float:
        return float(np.mean([table[name][key] for name in averaged if name in table] or [np.nan]))

    found = {
        "target_rate": results["target_rate"]["1"]["mean"],
        "target_rate_floor": results["floor"]["mean"],
        "target_rate_ceiling": results["ceiling"]["mean"],
        **{
            f"target_rate_{name}": value
            for name, value in results["target_rate"]["1"]["by_expression"].items()
        },
        **{
            f"target_rate_at_{strength}": it["mean"]
            for strength, it in results["target_rate"].items()
            if strength != "1"
        },
        **{f"target_rate_{name}": it["mean"] for name, it in results["robustness"].items()},
        "same_person_rate": identity["same_person_rate"],
        "same_person_rate_floor": identity["floor"]["same_person_rate"],
        "same_person_rate_ceiling": identity["ceiling"]["same_person_rate"],
        "strict_same_person_rate": identity["strict_same_person_rate"],
        "retrieval": identity["retrieval"],
        "pixel_retrieval": identity["pixel_retrieval"],
        **{
            f"{kind}{suffix}": mean(realism, f"{kind}{suffix}")
            for kind in ("frechet", "kernel")
            for suffix in ("", "_floor", "_unchanged")
        },
        "change_inside": mean(change, "inside"),
        "change_outside": mean(change, "outside"),
        "mask_area": mean(change, "mask_area"),
        "flow_px": mean(change, "flow_px"),
    }
    numbers = {name: float(value) for name, value in found.items() if np.isfinite(value)}
    return {**numbers, "protocol": str(results["protocol"])}


def _sentence(results: Mapping[str, Any]) -> str:
    counts, identity = results["counts"], results["identity"]
    compared = [it["count"] for it in results["realism"].values()]
    return (
        f"{counts['sources']} {results['faces']}, as evenly over their expressions as there are, "
        f"seed {results['seed']}; each given every other expression at strength 1 unless said. "
        f"Target rate: how often the judge ({results['networks']['judge']}) finds the wanted "
        f"expression the most probable, averaged over {', '.join(results['averaged'])}; floor: "
        f"the sources unchanged; ceiling: its accuracy on all {counts['real']} real faces, "
        "averaged alike. JPEG of quality 75; blur: Gaussian, σ 1 px. Same person: distance under "
        f"{identity['threshold']} of {IDENTITY_NETWORK}, {identity['count']} edits; strict: under "
        f"{identity['strict_threshold']:.3f}, which 1 % of pairs of different faces pass; floor: "
        "pairs of different faces (the data names nobody: some may be one person); ceiling: a "
        f"face and its blurred copy. Retrieval: the source nearest of {identity['gallery']} faces. "
        "Fréchet and kernel distance (× 1000): edits against real faces of the expression, "
        f"at least {min(compared, default=0)} of each, features of "
        f"{FEATURE_NETWORK}; floor: as many other real faces; unchanged: as many sources of other "
        "expressions. Change: mean absolute difference in levels of 255, inside and outside of "
        "where the mask is at least 0.1."
    )
