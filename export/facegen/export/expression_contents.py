"""The family of an expression model: encoder, a decoder an expression, aligner and two priors."""

from pathlib import Path

from facegen.export.contents import FamilyContents, Sessions, family_facts, repeated
from facegen.export.errors import OptionError
from facegen.export.expression_card import PICTURE_COUNT, expression_card
from facegen.export.expression_plans import (
    ExpressionReference,
    plan_aligner,
    plan_expression_decoders,
    plan_expression_encoder,
)
from facegen.export.options import ExportOptions
from facegen.export.picture import SampleSheet, draw_latents, draw_pictures, to_png
from facegen.export.plans import plan_priors
from facegen.export.runtime import Array
from facegen.training import ExpressionRun, load_aligner_run
from facegen.training.data.alignment import TEMPLATE
from facegen.training.expression.data import load_aligned_faces

__all__ = ["expression_contents"]


def expression_contents(
    run: ExpressionRun, family: str, *, options: ExportOptions, data: Path | None
) -> FamilyContents:
    """Plan a family of a decoder for each expression.

    Args:
        run: The finished run.
        family: The family's name.
        options: How to export; the aligner's run is needed.
        data: Where the data set lies now; None takes the folder it was trained from.

    Raises:
        OptionError: No aligner was given.
        RunError: The data set has no validation faces.
        TrainingError: The data or the aligner's run cannot be read, or that is of another kind.
    """
    if options.aligner is None:
        raise OptionError(
            "--aligner", "", expected="the finished run of an aligner, for a family of expressions"
        )
    aligner = load_aligner_run(options.aligner)
    count = options.picture_count
    images = repeated(run, _validation_faces(run, data), count=count)
    reference = ExpressionReference.of(run.model, images)
    template = tuple((float(x), float(y)) for x, y in TEMPLATE)
    facts = family_facts(run, family, template=template)
    storage = options.storage or "float16"
    decoders = plan_expression_decoders(reference, storage=storage)
    return FamilyContents(
        facts=facts,
        plans=(
            plan_expression_encoder(reference, storage=storage),
            *decoders,
            plan_aligner(aligner.model, images, storage=storage),
            *plan_priors({"mixture": run.prior}, count=count, storage=storage),
        ),
        picture=lambda sessions: _sample_picture(
            sessions, family, [plan.role.expression for plan in decoders], facts.latent_size
        ),
        card=lambda version, graphs: expression_card(
            run, facts, aligner=aligner, version=version, graphs=graphs
        ),
    )


def _validation_faces(run: ExpressionRun, data: Path | None) -> Array:
    config = run.config.data
    if data is not None:
        config = config.model_copy(update={"root": str(data)})
    return load_aligned_faces(config, run.config.model.expressions).validation.images


def _sample_picture(
    sessions: Sessions, family: str, expressions: list[str], latent_size: int
) -> bytes:
    """Draw the same latents with every expression, one below the other."""
    prior = sessions[f"{family}-prior-mixture"]
    latents = draw_latents(prior, latent_size=latent_size, count=PICTURE_COUNT)
    sheets = [
        SampleSheet(expression, draw_pictures(sessions[f"{family}-decoder-{expression}"], latents))
        for expression in expressions
    ]
    return to_png(sheets, columns=PICTURE_COUNT, stacked=True)
