"""The family of an autoencoder: encoder, decoder and two priors."""

from pathlib import Path

from facegen.export.card import family_card
from facegen.export.contents import FamilyContents, Sessions, family_facts, repeated
from facegen.export.options import ExportOptions
from facegen.export.picture import SampleSheet, draw_latents, draw_pictures, to_png
from facegen.export.plans import Reference, plan_decoder, plan_encoder, plan_priors
from facegen.training import Run

__all__ = ["autoencoder_contents"]

_CAPTIONS = {"mixture": "fitted mixture (default)", "normal": "N(0, I)"}


def autoencoder_contents(
    run: Run, family: str, *, options: ExportOptions, data: Path | None
) -> FamilyContents:
    """Plan a family of four graphs.

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
    facts = family_facts(run, family)
    return FamilyContents(
        facts=facts,
        plans=(
            plan_encoder(run.model, reference, storage=options.encoder_storage),
            plan_decoder(run.model, reference, storage=options.decoder_storage or "float32"),
            *plan_priors(run.prior, count=count),
        ),
        picture=lambda sessions: _sample_picture(sessions, family, facts.latent_size),
        card=lambda version, graphs: family_card(run, facts, version=version, graphs=graphs),
    )


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
