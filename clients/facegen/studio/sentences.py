"""Errors as the sentences that visitors see."""

import functools
import html
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from facegen.client import ClientError, UnavailableError

__all__ = ["sentence", "tells_errors"]

P = ParamSpec("P")
T = TypeVar("T")

# What the server advises on these is for programs.
_OF_REASON = {
    "NO_FACE": "No face seen from the front is in the photo. Try one with more light, or closer.",
    "FACE_TOO_SMALL": "The face in the photo is too small. Try one taken closer.",
    "TOO_MANY_FACES": "There are too many faces in the photo. Try one with fewer people.",
    "PICTURE": "The file is not a picture, or it is damaged. Try a JPEG, PNG or WebP file.",
}
_FIELD = re.compile(r"^[a-z_]+(\[\d+\])?(\.[a-z_]+)*: ")


def sentence(error: ClientError) -> str:
    """Give what is to be told of an error, as text."""
    if error.reason in _OF_REASON:
        return _OF_REASON[error.reason]
    text = str(error)
    if isinstance(error, UnavailableError):
        text = text.partition(" (")[0]  # the rest is gRPC's own
    else:
        text = _FIELD.sub(lambda it: it.group().split(".")[0].removesuffix(": ") + " ", text)
    return text[:1].upper() + text[1:]


def tells_errors(handler: Callable[P, T]) -> Callable[P, T]:
    """Let a handler of the page tell its visitor of the client's errors."""

    @functools.wraps(handler)
    def run(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return handler(*arguments, **options)
        except ClientError as error:
            raise gr.Error(
                html.escape(sentence(error)),
                title="That did not work",
                duration=20,
                print_exception=False,
            ) from error

    return run
