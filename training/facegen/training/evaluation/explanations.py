"""What each number means, in a few words, and how numbers are grouped for people."""

import re
from collections.abc import Mapping

__all__ = ["GROUPS", "explain", "grouped"]

GROUPS = (
    "Reconstruction",
    "Samples",
    "Another network's opinion",
    "Temperature",
    "Labels",
    "Likelihood and latents",
    "Time",
)

_SETS = {
    "floor": "training pictures (the least that a model can reach)",
    "reconstruction": "reconstructions",
    "mixture": "samples of the fitted mixture",
    "normal": "samples of N(0, I)",
    "rendered": "rendered pictures",
    "pca_reconstruction": "PCA's reconstructions with as many values",
    "pca_gaussian": "Gaussian samples in PCA's space",
}

_KINDS = {
    "frechet": "Fréchet distance to unseen real pictures; lower is better",
    "kernel": "kernel distance × 1000 to unseen real pictures; lower is better",
    "inception_fid": "Inception FID at this count of pictures; lower is better",
    "precision": "share of pictures that lie among real ones",
    "recall": "share of real pictures that lie among these",
    "density": "how densely these lie where real ones do; 1 for one distribution",
    "coverage": "share of real pictures with one of these nearby",
    "found": "share of pictures in which dlib's detector finds a face",
    "spectrum": "mean squared logarithm of waves' power over the real pictures'; 0 is as real",
    "weave": "power of a period of two pixels over the real pictures'; 1 is as real",
    "sharpness": "Laplacian variance over the real pictures'; 1 is as sharp",
}

_ALONE = {
    "psnr_db": "Peak signal-to-noise ratio of reconstructions; higher is better",
    "ssim": "Structural similarity of reconstructions, at most 1",
    "pca_psnr_db": "The same of PCA with as many values",
    "pca_ssim": "The same of PCA with as many values",
    "bits_per_dimension": "Bits that a value of a picture costs at most, 8 for a blind guess",
    "sigma_levels": "Output deviation of that likelihood, in levels of 255",
    "kl_nats": "Divergence of a picture's posterior from N(0, I): what a latent carries, in nats",
    "aggregate_kl_nats": "Divergence of all latents together from N(0, I), by their moments: what "
    "that prior misses",
    "active_units": "Latent dimensions that depend on the picture",
}

_PATTERN = re.compile(
    rf"(?P<kind>{'|'.join(_KINDS)})_(?P<set>.+?)"
    r"(?P<ratio>_to_pca_gaussian)?(?:_temperature_(?P<temperature>[\d.]+))?"
    r"(?P<network>_lite2|_dlib)?$"
)
_TIME = re.compile(r"(?P<call>call_)?(?P<what>encode|decode)_ms_batch_(?P<batch>\d+)$")
_NETWORKS = {"_lite2": "EfficientNet-Lite2", "_dlib": "dlib's face recognition"}


def explain(name: str) -> tuple[str, str]:
    """The group of a number and what it means."""
    if name in _ALONE:
        group = GROUPS[0] if "psnr" in name or "ssim" in name else "Likelihood and latents"
        return group, _ALONE[name]
    if found := _TIME.match(name):
        where = "a call to the server, network and all" if found["call"] else "PyTorch, one thread"
        return (
            "Time",
            f"Milliseconds to {found['what']} an image, {found['batch']} at once; {where}",
        )
    found = _PATTERN.match(name)
    if not found:
        return "Samples", ""
    return _group(found), _meaning(found)


def grouped(numbers: Mapping[str, float]) -> dict[str, list[str]]:
    """Names by group, in the order of GROUPS; empty groups are left out."""
    found: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in numbers:
        found[explain(name)[0]].append(name)
    return {group: names for group, names in found.items() if names}


def _group(found: re.Match[str]) -> str:
    name = found["set"]
    if found["network"] or found["kind"] == "inception_fid":
        return "Another network's opinion"
    if found["temperature"]:
        return "Temperature"
    if name in ("reconstruction", "pca_reconstruction"):
        return "Reconstruction"
    return "Samples" if name in _SETS else "Labels"


def _meaning(found: re.Match[str]) -> str:
    name, network = found["set"], _NETWORKS.get(found["network"] or "")
    sees = f", seen by {network}" if network else ""
    if found["ratio"]:
        return f"Distance of {_SETS.get(name, name)} over that of PCA's Gaussian{sees}"
    heat = f" at temperature {found['temperature']}" if found["temperature"] else ""
    return f"{_title(name)}{heat}: {_KINDS[found['kind']]}{sees}"


def _title(name: str) -> str:
    if name in _SETS:
        return _SETS[name][0].upper() + _SETS[name][1:]
    for end, words in (
        ("_floor", "training pictures of that label"),
        ("_by_mixture", "the mixture's samples against real pictures of the label"),
    ):
        if name.endswith(end):
            return f"{name.removesuffix(end)}, {words}"
    return f"{name}, samples of its own prior"
