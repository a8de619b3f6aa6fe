"""The family of an autoencoder: encoder, decoder, priors, and directions where it has some."""

from pathlib import Path

from facegen.export.card import family_card
from facegen.export.card_latents import added_effects
from facegen.export.contents import FamilyContents, Sessions, family_facts, repeated
from facegen.export.options import ExportOptions
from facegen.export.picture import SampleSheet, draw_latents, draw_pictures, to_png
from facegen.export.plans import (
    GraphPlan,
    Reference,
    plan_decoder,
    plan_directions,
    plan_encoder,
    plan_priors,
)
from facegen.training import Run
from facegen.training.data.points import face_frame
from facegen.training.directions import kept_directions

__all__ = ["autoencoder_contents"]

_CAPTIONS = {"mixture": "fitted mixture (default)", "normal": "N(0, I)"}

_FRAMED_COUNT = 200
"""Pictures that tell how faces are framed."""


def autoencoder_contents(
    run: Run, family: str, *, options: ExportOptions, data: Path | None
) -> FamilyContents:
    """Plan a family: four graphs, and those of labels' priors and of directions.

    Args:
        run: The finished run.
        family: The family's name.
        options: How to export.
        data: Where the data set lies now; None takes the folder it was trained from.

    Raises:
        RunError: The run has no validation pictures.
        TrainingError: Its data cannot be read.
    """
    count = options.picture_count
    images = repeated(run, run.validation_images(count, data=data), count=count)
    reference = Reference.of(run.model, images)
    framed = run.validation_images(_FRAMED_COUNT, data=data)
    facts = family_facts(run, family, face_frame=face_frame(framed))
    return FamilyContents(
        facts=facts,
        plans=(
            plan_encoder(run.model, reference, storage=options.storage or "int8"),
            plan_decoder(run.model, reference, storage=options.storage or "float16"),
            *plan_priors(run.priors, count=count, storage=options.storage or "float16"),
            *_directions(run, reference),
        ),
        picture=lambda sessions: _sample_picture(sessions, family, facts.latent_size),
        card=lambda version, graphs: family_card(run, facts, version=version, graphs=graphs),
        report=run.paths.public_page.read_bytes() if run.paths.public_page.is_file() else None,
    )


def _directions(run: Run, reference: Reference) -> tuple[GraphPlan, ...]:
    if run.directions is None:
        return ()
    kept = kept_directions(run.directions, run.effects)
    return (plan_directions(kept, reference, effects=added_effects(run)),)


def _sample_picture(sessions: Sessions, family: str, latent_size: int) -> bytes:
    """Draw the same faces from both priors."""
    decoder = sessions[f"{family}-decoder"]
    return to_png(
        [
            SampleSheet(
                caption,
                draw_pictures(
                    decoder,
                    draw_latents(sessions[f"{family}-prior-{prior}"], latent_size=latent_size),
                ),
            )
            for prior, caption in _CAPTIONS.items()
        ]
    )
