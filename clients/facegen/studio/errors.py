"""The studio's errors.

FacegenError
└── StudioError    the page cannot be served as asked
"""

from facegen.errors import FacegenError

__all__ = ["StudioError"]


class StudioError(FacegenError):
    """The page cannot be served as asked."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
