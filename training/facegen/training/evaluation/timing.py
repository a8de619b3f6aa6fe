"""How long a model takes for a picture."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from facegen.training.evaluation.subject import Pixels, Subject

__all__ = ["BATCH_SIZES", "median_ms", "time_subject"]

BATCH_SIZES = (1, 64)
_LEAST_REPETITIONS = 5


def time_subject(subject: Subject, pixels: Pixels, *, seconds: float = 1.0) -> dict[str, float]:
    """Time encoding and decoding on one thread of this process.

    Args:
        subject: What is timed: of a served model whole calls are, with network and coding.
        pixels: Pictures to repeat, (N, H, W, C) uint8.
        seconds: How long each of the four is repeated, at least five times.

    Returns:
        Median milliseconds an image: `encode_ms_batch_1` … for a run, `call_encode_ms_…` if served.
    """
    prefix = "call_" if subject.facts.source == "served" else ""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        for size in BATCH_SIZES:
            batch = pixels[[index % len(pixels) for index in range(size)]]
            latents = subject.encode(batch).mean
            encode, decode = partial(subject.encode, batch), partial(subject.decode, latents)
            for name, call in (("encode", encode), ("decode", decode)):
                found[f"{prefix}{name}_ms_batch_{size}"] = median_ms(call, seconds=seconds) / size
    finally:
        torch.set_num_threads(threads)
    return found


def median_ms(call: Callable[[], object], *, seconds: float) -> float:
    """The median time of a call in milliseconds, repeated for so long and at least five times."""
    call()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _LEAST_REPETITIONS or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
