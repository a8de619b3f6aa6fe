"""The model card of a family, in Markdown."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from facegen.export.config import FamilyFacts
from facegen.export.datasets import DatasetTerms, dataset_terms
from facegen.export.picture import SAMPLE_COUNT
from facegen.export.report import GraphReport, error_text, times_text
from facegen.training import Run, TrainConfig, load_recipe, preset_names

__all__ = ["family_card"]

_KINDS = {"vae": "A variational autoencoder (VAE)", "autoencoder": "An autoencoder (AE)"}

_MACHINE_WORDS = {
    "device": "{}",
    "threads": "{} threads",
    "torch": "PyTorch {}",
    "lightning": "Lightning {}",
}


def family_card(
    run: Run, facts: FamilyFacts, *, version: int, graphs: Sequence[GraphReport]
) -> str:
    """Write the card of a family.

    Args:
        run: The run it was trained by.
        facts: What the family says of itself.
        version: Its version.
        graphs: Its graphs as measured.

    Returns:
        Markdown that shows the picture `<family>.png` beside it.
    """
    terms = dataset_terms(facts.dataset)
    sections = [
        _head(facts, version=version),
        _data(run, facts, terms),
        _training(run, facts),
        _quality(run, facts),
        _graphs(graphs),
        _limits(facts, terms),
    ]
    return "\n".join(sections)


def _head(facts: FamilyFacts, *, version: int) -> str:
    height, width, channels = facts.image_size
    color = "RGB" if channels == 3 else "grey"
    return f"""\
# {facts.family}

{_KINDS[facts.kind]} of faces: {height} x {width} pixels, {color}, {facts.latent_size} values in
a latent. Version {version}.

![Faces drawn from the fitted mixture and from N(0, I)]({facts.family}.png)

Faces 0 to {SAMPLE_COUNT - 1} of seed 0 at temperature 1, drawn by the graphs of this version: from
the mixture fitted to the latents, which is the default prior, and from N(0, I). None of them is a
picture of the data set. The same faces from a server:

```
facegen generate --family {facts.family} --count {SAMPLE_COUNT} --seed 0
```
"""


def _data(run: Run, facts: FamilyFacts, terms: DatasetTerms) -> str:
    source = f", {terms.url}" if terms.url else ""
    counts = [
        f"{run.facts[key]:,} {verb}"
        for key, verb in (("train_pictures", "to train"), ("validation_pictures", "to validate"))
        if key in run.facts
    ]
    pictures = f" Pictures: {', '.join(counts)}." if counts else ""
    return f"""\
## Data

{terms.title}{source}.{pictures} The model sees the central square of
{facts.crop:.4g} of a picture's shorter side ({terms.framing}), reduced to its
size with antialiasing.

Terms: {terms.terms}
"""


def _training(run: Run, facts: FamilyFacts) -> str:
    config, seen = run.config, run.facts
    minutes = f"{run.seconds / 60:.1f} minutes" if "seconds" in seen else "unknown"
    if config.start_from:
        minutes += f", those of {config.start_from} included"
    machine = ", ".join(
        words.format(seen[key]) for key, words in _MACHINE_WORDS.items() if key in seen
    )
    return f"""\
## Training

```
{_command(config)}
```

| | |
| --- | --- |
| time | {minutes} |
| machine | {machine or "unknown"} |
| commit | {facts.commit or "unknown"} |
| seed | {config.seed} |
| epochs, batch | {config.epochs}, {config.batch_size} |
| channels | {"-".join(map(str, config.model.widths))} |
| loss | {_loss(config)} |
| weights | moving average, decay {config.ema_decay:g} |
| prior | {len(run.prior.weights)} Gaussians with full covariances |
"""


def _loss(config: TrainConfig) -> str:
    loss = config.loss
    sigma = loss.reconstruction == "sigma"
    terms = ["likelihood with a learned variance" if sigma else "squared error"]
    if config.model.kind == "vae" and loss.reconstruction != "mse":
        terms.append(f"{loss.beta:g} · KL")
    if loss.ssim_weight:
        terms.append(f"{loss.ssim_weight:g} · (1 − SSIM) a value")
    if loss.adversarial_weight:
        terms.append(f"{loss.adversarial_weight:g} · a patch critic's judgement a value")
    return " + ".join(terms)


def _command(config: TrainConfig) -> str:
    """The command that trains this recipe: the nearest preset, and what differs from it."""
    wanted = dict(_flat(config.model_dump()))

    def differing(preset: str) -> list[str]:
        usual = dict(_flat(load_recipe(preset).model_dump()))
        # Where the data lies is the machine's.
        skipped = ("data.root", "description")
        return [key for key in wanted if wanted[key] != usual.get(key) and key not in skipped]

    preset = min(preset_names(), key=lambda name: len(differing(name)))
    words = ["facegen train", preset]
    if wanted["data.reader"] == "folder":
        words.append("--images FOLDER")
    words += [
        f"--set {shlex.quote(f'{key}={_toml(wanted[key])}')}"
        for key in differing(preset)
        if key != "data.reader" or "--images FOLDER" not in words
    ]
    return " \\\n  ".join(words) if len(words) > 4 else " ".join(words)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _toml(value: object) -> str:
    """A value as TOML; strings bare, as --set takes them."""
    return value if isinstance(value, str) else json.dumps(value)


def _quality(run: Run, facts: FamilyFacts) -> str:
    if not facts.metrics:
        return f"""\
## Quality

Not evaluated. Measure the run with `facegen evaluate {run.paths.folder.name}` and export it again.
"""
    rows = "\n".join(_row([name, f"{value:.4g}"]) for name, value in facts.metrics.items())
    return f"""\
## Quality

| metric | value |
| --- | --- |
{rows}

{facts.protocol}
"""


def _graphs(graphs: Sequence[GraphReport]) -> str:
    sizes = sorted({size for graph in graphs for size in graph.times_ms})
    header = ["graph", "form", "MB", "level error", *(f"ms at {size}" for size in sizes)]
    rows = [header, ["---"] * len(header)]
    for graph in graphs:
        times = (times_text(graph, size) for size in sizes)
        rows.append([graph.name, graph.form, f"{graph.size / 1e6:.2f}", error_text(graph), *times])
    table = "\n".join(_row(row) for row in rows)
    return f"""\
## Graphs

{table}

Milliseconds an image with ONNX Runtime on one thread of the exporting machine, by batch size; in
brackets the graph without rewrites. Level error: how far a pixel is from PyTorch's on validation
pictures, of 255: the most, and the mean. Every row has the same bits in every batch size.
"""


def _limits(facts: FamilyFacts, terms: DatasetTerms) -> str:
    return f"""\
## Limits

- Made from research data: check its terms before any other use.
- {terms.limits}
- Pictures are blurry, as an autoencoder's are: hair, teeth and background are averages. Faces that
  are not framed like the data set's (central square of {facts.crop:.4g}) come back wrong.
- A generated face belongs to nobody, but may resemble a real person, one of the data set's
  included. Do not pass it off as a person's picture; the service marks its pictures as synthetic.
- Not for recognising, ranking or judging people.
"""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
