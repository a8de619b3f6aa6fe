"""What a card says of an autoencoder's latents: the priors of labels, and the directions."""

from collections.abc import Mapping
from typing import Any

from facegen.export.card_sections import table_text
from facegen.training import Run
from facegen.training.directions import kept_directions

__all__ = ["added_effects", "latent_sections"]

_STRENGTH = (
    "Strength 1 is twice the difference between the mean latents of faces with the label and of "
    "faces without it (of the same sex and age, where CelebA's labels tell)."
)
_HEAD = ("direction", "judge", "before", "at +1", "at −1", "others", "also moves")


def added_effects(run: Run) -> dict[str, float]:
    """What each direction that is kept adds to the probability of its label, where measured."""
    measured: Mapping[str, Any] = run.effects.get("directions", {})
    return {name: found["added"] for name, found in measured.items() if found["kept"]}


def latent_sections(run: Run, family: str) -> list[str]:
    """Write the sections of priors and of directions; none for a run that has neither.

    Args:
        run: The run.
        family: The family's name.
    """
    sections = []
    if run.label_priors:
        sections.append(_priors(run, family))
    if run.directions is not None:
        sections.append(_directions(run, family))
    return sections


def _priors(run: Run, family: str) -> str:
    rows: list[tuple[str, ...]] = [("prior", "Gaussians")]
    rows += [(name, str(len(prior.weights))) for name, prior in run.priors.items()]
    first = next(iter(run.label_priors))
    return f"""\
## Priors

{table_text(rows)}

Each is fitted to the latents of the training pictures with one label, those of few pictures with
covariances drawn towards that of all; `mixture` is of all pictures.

```
facegen generate --family {family} --prior {first} --count 8 --seed 0
```
"""


def _directions(run: Run, family: str) -> str:
    assert run.directions is not None
    kept = kept_directions(run.directions, run.effects).names
    labels = [name for name in kept if not name.startswith("component-")]
    axes = len(kept) - len(labels)
    measured: Mapping[str, Any] = run.effects.get("directions", {})
    parts = [
        f"`component-1` to `component-{axes}` are the axes along which latents vary most; "
        "strength 1 is one standard deviation."
    ]
    if labels:
        parts.insert(0, _labels_text(run, labels, measured))
    body = "\n\n".join(parts)
    return f"""\
## Directions

{body}

```
facegen edit photo.jpg --family {family} --more {kept[0]}
```
"""


def _labels_text(run: Run, labels: list[str], measured: Mapping[str, Any]) -> str:
    if not measured:
        return (
            "What these change was not measured: `facegen fit` does. "
            + ", ".join(f"`{name}`" for name in labels)
            + f". {_STRENGTH}"
        )
    rows: list[tuple[str, ...]] = [_HEAD]
    rows += [_row(name, measured[name]) for name in labels if name in measured]
    out = [name for name, found in measured.items() if not found["kept"]]
    left = f" Measured and left out: {', '.join(out)}." if out else ""
    return f"""\
{table_text(rows)}

{_STRENGTH} Judge: how well it tells real photos (balanced accuracy). Before: the mean probability
of the label in photos without it; at +1: how much the edit adds to that, ± its standard error; at
−1: likewise for photos with it. Others: the mean change of the other labels' probabilities at +1;
also moves: those that change most, wanted or not.{left}

{run.effects.get("protocol", "")}"""


def _row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    moved = ", ".join(f"{other} {change:+.2f}" for other, change in found["moved"].items())
    return (
        name,
        f"{found['balanced_accuracy']:.2f}",
        f"{found['before']:.2f}",
        f"{found['added']:+.2f} ± {found['error']:.2f}",
        f"{found['removed']:+.2f}",
        f"{found['others']:.2f}",
        moved or "–",
    )
