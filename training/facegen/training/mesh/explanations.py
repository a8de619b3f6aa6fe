"""What each number of an evaluation of meshes means, in a few words."""

import re

__all__ = ["explain", "split_title"]

_SPLITS = {
    "validation": "validation",
    "identity": "new people",
    "expression": "new expressions",
    "both": "new people and expressions",
    "test": "unseen meshes",
}

_ERRORS = {
    "vertex_error_mm": "Mean distance of vertices from where they should be",
    "vertex_error_std_mm": "Standard deviation of that distance",
    "vertex_error_median_mm": "Median of that distance",
    "pca_vertex_error_mm": "The mean distance of PCA with as many values",
    "pca_vertex_error_std_mm": "Its standard deviation",
    "pca_vertex_error_median_mm": "Its median",
    "vertex_error_to_pca": "The model's mean distance over PCA's; below 1 beats it",
    "template_vertex_error_mm": "The mean distance of the mean mesh: no model at all",
    "noisy_vertex_error_mm": "The model's mean distance where it sees 1 mm of noise",
    "pca_noisy_vertex_error_mm": "PCA's where it sees the same",
}

_SETS = {
    "mixture": "samples of the fitted mixture",
    "normal": "samples of N(0, I)",
    "pca_gaussian": "Gaussian samples in PCA's space",
}

_ALONE = {
    "parameters": ("Size and time", "Numbers that training changes"),
    "epoch_seconds": ("Size and time", "Seconds that the last epoch took, with its validation"),
    "kl_nats": (
        "Latents",
        "Divergence of a validation mesh's posterior from N(0, I): what a latent carries, in nats",
    ),
    "aggregate_kl_nats": (
        "Latents",
        "Divergence of all validation latents together from N(0, I), by their moments: what that "
        "prior misses",
    ),
    "active_units": ("Latents", "Latent dimensions that depend on the mesh"),
    "specificity_mm_floor": (
        "Samples",
        "Meshes that training has not seen: distance to the nearest training mesh",
    ),
    "variety_mm_floor": (
        "Samples",
        "Distance from unseen meshes to the nearest of as many training meshes",
    ),
}

_ERROR = re.compile(rf"(?P<kind>{'|'.join(_ERRORS)})_(?P<split>[^_]+)$")
_GENERATION = re.compile(r"(?P<kind>specificity|variety)_mm_(?P<set>.+)$")
_TIME = re.compile(r"(?P<what>encode|decode)_ms_batch_(?P<batch>\d+)$")


def explain(name: str) -> tuple[str, str]:
    """The group of a number and what it means."""
    if name in _ALONE:
        return _ALONE[name]
    if found := _TIME.match(name):
        how = f"{found['batch']} at once; PyTorch, one thread"
        return "Size and time", f"Milliseconds to {found['what']} a mesh, {how}"
    if found := _GENERATION.match(name):
        title = _SETS.get(found["set"], found["set"])
        if found["kind"] == "specificity":
            return (
                "Samples",
                f"{title[0].upper()}{title[1:]}: distance to the nearest training mesh",
            )
        return "Samples", f"Distance from unseen meshes to the nearest of as many {title}"
    if found := _ERROR.match(name):
        return f"Reconstruction: {split_title(found['split'])}", _ERRORS[found["kind"]]
    return "More", ""


def split_title(name: str) -> str:
    """A split's name for people."""
    return _SPLITS.get(name, name)
