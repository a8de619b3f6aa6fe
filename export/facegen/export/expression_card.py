"""The model card of a family of expressions, in Markdown."""

from collections.abc import Mapping, Sequence

from facegen.export.card_sections import (
    data_counts,
    graphs_section,
    machine_words,
    not_evaluated,
    table_row,
    training_command,
    training_time,
)
from facegen.export.config import FamilyFacts
from facegen.export.datasets import DatasetTerms, dataset_terms
from facegen.export.report import GraphReport
from facegen.training import AlignerRun, ExpressionRun
from facegen.training.expression.model import EXPRESSIONS

__all__ = ["PICTURE_COUNT", "expression_card"]

PICTURE_COUNT = 16
"""Latents on the picture, one a column."""

_RATE = "target_rate_"


def expression_card(
    run: ExpressionRun,
    facts: FamilyFacts,
    *,
    aligner: AlignerRun,
    version: int,
    graphs: Sequence[GraphReport],
) -> str:
    """Write the card of a family.

    Args:
        run: The run it was trained by.
        facts: What the family says of itself.
        aligner: The run of its aligner.
        version: Its version.
        graphs: Its graphs as measured.

    Returns:
        Markdown that shows the picture `<family>.png` beside it.
    """
    terms = dataset_terms(facts.dataset)
    sections = [
        _head(run, facts, version=version),
        _data(run, terms),
        _training(run, facts, aligner),
        _quality(run, facts),
        graphs_section(graphs),
        _limits(run, terms),
    ]
    return "\n".join(sections)


def _head(run: ExpressionRun, facts: FamilyFacts, *, version: int) -> str:
    expressions = run.config.model.expressions
    one = expressions[min(1, len(expressions) - 1)]
    size = f"{run.config.model.image_size} x {run.config.model.image_size}"
    return f"""\
# {facts.family}

Gives the faces of a photo another expression: {", ".join(expressions)}.
One variational encoder and a decoder for each expression, which says what to move, what to paint
and where; the rest of the photo stays as it is. Faces are found, aligned to {size} grey
pixels, edited, and put back at the photo's own resolution and in its colours.
{facts.latent_size} values in a latent. Version {version}.

```
facegen transfer photo.jpg --expression {one} --strength 0.8 --out {one}.jpg
facegen transfer photo.jpg --all --out sheet.jpg
```

![Faces drawn from the fitted mixture, a row an expression]({facts.family}.png)

Faces 0 to {PICTURE_COUNT - 1} of seed 0 at temperature 1, drawn by the graphs of this version from
the mixture fitted to the latents: a column is one latent, a row an expression. None of them is a
picture of the data set. The same faces from a server:

```
facegen generate --family {facts.family} --expression {one} --count {PICTURE_COUNT} --seed 0
```
"""


def _data(run: ExpressionRun, terms: DatasetTerms) -> str:
    source = f", {terms.url}" if terms.url else ""
    kinds = ("train_expressions", "validation_expressions")
    counts: dict[str, Mapping[str, int]] = {
        kind: run.facts[kind] for kind in kinds if kind in run.facts
    }
    rows = [
        table_row([name, *(f"{of_kind.get(name, 0):,}" for of_kind in counts.values())])
        for name in run.config.model.expressions
    ]
    titles = ["expression", *(kind.split("_")[0] for kind in counts)]
    head = [table_row(titles), table_row(["---"] * len(titles))]
    table = "\n\n" + "\n".join(head + rows) if counts else ""
    return f"""\
## Data

{terms.title}{source}.{data_counts(run.facts)} Each is aligned by five points found by dlib; its
label is an expression that at least {run.config.data.majority:.0%} of its taggers chose.{table}

Terms: {terms.terms}
"""


def _training(run: ExpressionRun, facts: FamilyFacts, aligner: AlignerRun) -> str:
    config = run.config
    guides = [guide.get("train_pictures") for guide in run.facts.get("guides", ())]
    rows = {
        "time": training_time(run.facts, start_from=config.start_from),
        "machine": machine_words(run.facts),
        "commit": facts.commit or "unknown",
        "seed": str(config.seed),
        "steps, batch": f"{config.epochs * config.steps_per_epoch:,}, {config.batch_size}",
        "steps without guides": f"{config.unguided_steps:,}",
        "guides": f"{len(config.guides)} classifier"
        + "s" * (len(config.guides) != 1)
        + (f", trained on {' and '.join(f'{count:,}' for count in guides)}" if all(guides) else ""),
        "channels": "-".join(map(str, config.model.widths)),
        "weights": f"moving average, decay {config.ema_decay:g}",
        "prior": f"{len(run.prior.weights)} Gaussians with full covariances",
        "aligner": f"distilled from dlib's five points.{data_counts(aligner.facts)}",
    }
    table = "\n".join(table_row(row) for row in rows.items())
    return f"""\
## Training

```
{training_command(config)}
```

| | |
| --- | --- |
{table}
"""


def _quality(run: ExpressionRun, facts: FamilyFacts) -> str:
    if not facts.metrics:
        return not_evaluated(f"facegen evaluate expression {run.paths.folder.name}")
    rates = {
        name: facts.metrics[_RATE + name]
        for name in run.config.model.expressions
        if _RATE + name in facts.metrics
    }
    others = {
        name: value
        for name, value in facts.metrics.items()
        if name.removeprefix(_RATE) not in rates or not name.startswith(_RATE)
    }
    tables = [
        _table("expression", "reached", {name: f"{rate:.1%}" for name, rate in rates.items()}),
        _table("metric", "value", {name: f"{value:.4g}" for name, value in others.items()}),
    ]
    shown = "\n\n".join(table for table in tables if table)
    return f"""\
## Quality

{shown}

{facts.protocol}
"""


def _table(key: str, value: str, rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    lines = [(key, value), ("---", "---"), *rows.items()]
    return "\n".join(table_row(line) for line in lines)


def _limits(run: ExpressionRun, terms: DatasetTerms) -> str:
    experimental = [name for name in run.config.model.expressions if name not in EXPRESSIONS]
    poor = f"- Experimental, of poor quality: {', '.join(experimental)}.\n" if experimental else ""
    return f"""\
## Limits

- Made from research data: check its terms before any other use.
- {terms.limits}
{poor}- The model sees 48 x 48 grey pixels: what it paints is coarse, teeth and wrinkles most of
  all; what it moves keeps the photo's sharpness.
- Faces from the front: profiles, covered and tiny faces are not found or come out wrong.
- Labels are what taggers saw in a face, not what anybody felt.
- An edited photo shows what did not happen. Do not pass it off as real, and ask who is on it; the
  service marks its pictures as edited.
- Not for recognising, ranking or judging people.
"""
