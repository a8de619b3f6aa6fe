"""What an evaluation may be asked to do otherwise."""

from dataclasses import dataclass

__all__ = ["EvaluationOptions"]


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Counts, and what costs more.

    Attributes:
        count: Validation pictures and samples; fewer where the split has fewer.
        second_count: Those of them that the second network sees.
        embedded_count: Those that dlib's network sees, a tenth of a second each.
        searched_count: Those in which its detector looks for a face, a fiftieth of a second each.
        label_count: The most pictures and samples of a label.
        label_minimum: The fewest validation pictures of a label that say anything.
        temperatures: Of the main prior, besides 1.
        timing_seconds: How long each of four timings is repeated.
        inception: Measure Inception's distance too.
    """

    count: int = 1000
    second_count: int = 500
    embedded_count: int = 250
    searched_count: int = 500
    label_count: int = 250
    label_minimum: int = 50
    temperatures: tuple[float, ...] = (0.7, 0.85)
    timing_seconds: float = 1.0
    inception: bool = False
