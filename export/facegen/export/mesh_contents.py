"""The family of a mesh autoencoder: encoder, decoder, two priors and the topology."""

import io
from pathlib import Path

from PIL import Image

from facegen.export.contents import FamilyContents, Sessions, family_facts, repeated
from facegen.export.mesh_card import COMPARISON, PICTURE_COUNT, TRAVERSALS, mesh_card
from facegen.export.mesh_plans import (
    MeshReference,
    plan_mesh_decoder,
    plan_mesh_encoder,
    plan_topology,
)
from facegen.export.options import ExportOptions
from facegen.export.picture import draw_latents
from facegen.export.plans import plan_priors
from facegen.export.runtime import run_rows
from facegen.training.mesh.files import ply_bytes
from facegen.training.mesh.model import MeshAutoencoder
from facegen.training.mesh.pictures import sample_sheet
from facegen.training.run import MeshRun

__all__ = ["mesh_contents"]

_HEIGHT_PX = 192
_COLOURS = 96


def mesh_contents(
    run: MeshRun, family: str, *, options: ExportOptions, data: Path | None
) -> FamilyContents:
    """Plan a family of meshes.

    Args:
        run: The finished run.
        family: The family's name.
        options: How to export. Weights are float32 if it does not say: the mean mesh in float16
            would be off by hundredths of a millimetre.
        data: Where the data set lies now; None takes the folder it was trained from.

    Raises:
        RunError: The data set has no validation meshes, or another topology than the model.
        TrainingError: Its data cannot be read.
    """
    count, storage = options.picture_count, options.storage or "float32"
    meshes = run.meshes(data).vertices["validation"][:count]
    reference = MeshReference.of(run.model, repeated(run, meshes, count=count, what="meshes"))
    facts = family_facts(run, family)
    page = run.paths.public_page
    return FamilyContents(
        facts=facts,
        plans=(
            plan_mesh_encoder(reference, storage=storage),
            plan_mesh_decoder(reference, storage=storage),
            *plan_priors({"mixture": run.prior}, count=count, storage=storage),
            plan_topology(run.model),
        ),
        picture=lambda sessions: _sample_picture(sessions, family, run.model),
        card=lambda version, graphs: mesh_card(run, facts, version=version, graphs=graphs),
        report=page.read_bytes() if page.is_file() else None,
        files={
            ".ply": ply_bytes(run.model.template, run.model.hierarchy.faces[0]),
            **_evaluated(run),
        },
    )


def _evaluated(run: MeshRun) -> dict[str, bytes | None]:
    """The pictures that `facegen evaluate mesh` left for the card; None for what it did not."""
    pictures = {COMPARISON: run.paths.comparison, TRAVERSALS: run.paths.traversals}
    return {end: path.read_bytes() if path.is_file() else None for end, path in pictures.items()}


def _sample_picture(sessions: Sessions, family: str, model: MeshAutoencoder) -> bytes:
    """Draw faces of the mixture; clay has few colours, and each costs bytes."""
    prior, decoder = sessions[f"{family}-prior-mixture"], sessions[f"{family}-decoder"]
    size = model.config.latent_size
    latents = draw_latents(prior, latent_size=size, count=PICTURE_COUNT)
    vertices = run_rows(decoder, {"latent": latents})["vertices"]
    sheet = sample_sheet(vertices, model.hierarchy.faces[0], height_px=_HEIGHT_PX)
    picture = Image.fromarray(sheet).quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
