"""What a card says of an autoencoder's quality: pictures by measures, and single numbers."""

from collections.abc import Mapping

from facegen.export.card_sections import not_evaluated, table_text

__all__ = ["quality_section"]

_MEASURES = (
    ("Fréchet", "frechet_{}"),
    ("kernel", "kernel_{}"),
    ("Fréchet, Lite2", "frechet_{}_lite2"),
    ("Fréchet, dlib", "frechet_{}_dlib"),
    ("precision", "precision_{}"),
    ("recall", "recall_{}"),
    ("density", "density_{}"),
    ("coverage", "coverage_{}"),
    ("faces found", "found_{}"),
    ("sharpness", "sharpness_{}"),
    ("weave", "weave_{}"),
    ("spectrum", "spectrum_{}"),
)
_JUDGES = ("_lite2", "_dlib")
_PICTURES = {
    "floor": "real (training pictures)",
    "reconstruction": "reconstructions",
    "mixture": "drawn from the mixture",
    "normal": "drawn from N(0, I)",
    "pca_reconstruction": "PCA: reconstructions",
    "pca_gaussian": "PCA: drawn from a Gaussian",
}


def quality_section(
    metrics: Mapping[str, float], *, protocol: str, command: str, report: str = ""
) -> str:
    """Write the section.

    Args:
        metrics: Numbers by their names in metrics.json; empty where nothing was measured.
        protocol: How they were measured.
        command: What measures them, for a run that was not.
        report: The name of a page beside the card; empty: there is none.
    """
    if not metrics:
        return not_evaluated(command)
    page = f"[{report}]({report}) shows all of it, with pictures.\n\n" if report else ""
    return f"""\
## Quality

{page}{_pictures_table(metrics)}

{_rest_table(metrics)}

{protocol}
"""


def _pictures_table(metrics: Mapping[str, float]) -> str:
    found = [key.removeprefix("frechet_") for key in metrics if key.startswith("frechet_")]
    pictures = [name for name in found if "_to_" not in name and not name.endswith(_JUDGES)]
    columns = [
        (title, key)
        for title, key in _MEASURES
        if any(key.format(name) in metrics for name in pictures)
    ]
    rows = [("pictures", *(title for title, _ in columns))]
    for name in pictures:
        values = (metrics.get(key.format(name)) for _, key in columns)
        rows.append((_title(name), *("–" if v is None else f"{v:.3g}" for v in values)))
    return table_text(rows)


def _title(pictures: str) -> str:
    prior, found, temperature = pictures.partition("_temperature_")
    known = _PICTURES.get(prior, f"drawn from {prior}")
    return f"{known}, temperature {temperature}" if found else known


def _rest_table(metrics: Mapping[str, float]) -> str:
    """What is of no pictures' own."""
    prefixes = {key.split("{")[0] for _, key in _MEASURES}
    rest = {
        key: value
        for key, value in metrics.items()
        if "_to_" in key or not key.startswith(tuple(prefixes))
    }
    return table_text([("metric", "value"), *((k, f"{v:.4g}") for k, v in rest.items())])
