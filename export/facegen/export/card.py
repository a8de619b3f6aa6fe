"""The model card of an autoencoder's family, in Markdown."""

from collections.abc import Sequence

from facegen.export.card_latents import latent_sections
from facegen.export.card_quality import quality_section
from facegen.export.card_sections import (
    data_counts,
    graphs_section,
    machine_words,
    training_command,
    training_time,
)
from facegen.export.config import FamilyFacts
from facegen.export.datasets import DatasetTerms, dataset_terms
from facegen.export.picture import SAMPLE_COUNT
from facegen.export.report import GraphReport
from facegen.training import Run, TrainConfig

__all__ = ["family_card"]

_KINDS = {"vae": "A variational autoencoder (VAE)", "autoencoder": "An autoencoder (AE)"}


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
        _head(run, facts, version=version),
        _data(run, facts, terms),
        _training(run, facts),
        quality_section(
            facts.metrics,
            protocol=facts.protocol,
            command=f"facegen evaluate {run.paths.folder.name}",
            report=f"{facts.family}.html" if run.paths.public_page.is_file() else "",
        ),
        *latent_sections(run, facts.family),
        graphs_section(graphs),
        _limits(run, facts, terms),
    ]
    return "\n".join(sections)


def _head(run: Run, facts: FamilyFacts, *, version: int) -> str:
    size_px = run.config.model.image_size
    color = "RGB" if run.config.model.channels == 3 else "grey"
    return f"""\
# {facts.family}

{_KINDS[facts.kind]} of faces: {size_px} x {size_px} pixels, {color}, {facts.latent_size} values in
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
    return f"""\
## Data

{terms.title}{source}.{data_counts(run.facts)} The model sees
{_seen(facts, terms)}, reduced to its size with antialiasing.

Terms: {terms.terms}
"""


def _seen(facts: FamilyFacts, terms: DatasetTerms) -> str:
    if facts.dataset.endswith("-aligned"):
        return terms.framing
    return f"the central square of {facts.crop:.4g} of a picture's shorter side ({terms.framing})"


def _training(run: Run, facts: FamilyFacts) -> str:
    config = run.config
    return f"""\
## Training

```
{training_command(config)}
```

| | |
| --- | --- |
| time | {training_time(run.facts, start_from=config.start_from)} |
| machine | {machine_words(run.facts)} |
| commit | {facts.commit or "unknown"} |
| seed | {config.seed} |
| epochs, batch | {config.epochs}, {config.batch_size} |
| channels | {_channels(config)} |
| loss | {_loss(config)} |
| weights | moving average, decay {config.ema_decay:g} |
| prior | {len(run.prior.weights)} Gaussians with full covariances |
"""


def _channels(config: TrainConfig) -> str:
    model = config.model
    widths = "-".join(map(str, model.widths))
    return widths + (f", decoder's last {model.head_width}" if model.head_width else "")


def _loss(config: TrainConfig) -> str:
    loss = config.loss
    sigma = loss.reconstruction == "sigma"
    terms = ["likelihood with a learned variance" if sigma else "squared error"]
    if config.model.kind == "vae" and loss.reconstruction != "mse":
        terms.append(f"{loss.beta:g} · KL")
    if loss.ssim_weight:
        terms.append(f"{loss.ssim_weight:g} · (1 − SSIM) a value")
    if loss.mmd_weight:
        terms.append(f"{loss.mmd_weight:g} · the latents' discrepancy from N(0, I)")
    if loss.feature_weight:
        terms.append(f"{loss.feature_weight:g} · the distance in frozen features a value")
    if loss.adversarial_weight:
        terms.append(f"{loss.adversarial_weight:g} · a critic's judgement a value")
    if loss.spectrum_weight:
        terms.append(f"{loss.spectrum_weight:g} · the distance of spectra a value")
    return " + ".join(terms)


def _limits(run: Run, facts: FamilyFacts, terms: DatasetTerms) -> str:
    return f"""\
## Limits

- Made from research data: check its terms before any other use.
- {terms.limits}
- {_look(run)} Faces that are not framed like the data set's come back wrong{_framing(facts)}.
- A generated face belongs to nobody, but may resemble a real person, one of the data set's
  included. Do not pass it off as a person's picture; the service marks its pictures as synthetic.
- Not for recognising, ranking or judging people.
"""


def _framing(facts: FamilyFacts) -> str:
    return ": `--face` finds and frames them" if facts.face_frame else ""


def _look(run: Run) -> str:
    if run.config.loss.adversarial_weight:
        return (
            "Fine detail is made up, as a critic teaches it: earrings, teeth and glasses may not "
            "match. What is rare in the data (hats, hands, profiles) "
            "comes out badly."
        )
    return "Pictures are blurry, as an autoencoder's are: hair, teeth and background are averages."
