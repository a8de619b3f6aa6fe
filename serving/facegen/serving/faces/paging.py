"""Pages of a list that is sorted by name, with tokens that callers cannot read meaning into."""

import base64
import binascii
from collections.abc import Sequence

from facegen.serving.errors import InputError

__all__ = ["page_of"]

_DEFAULT_SIZE, _MOST_SIZE = 100, 1000


def page_of(names: Sequence[str], *, size: int, token: str) -> tuple[list[str], str]:
    """Cut one page out of names.

    Args:
        names: All names; a page begins after the last name of the page before, so names may come
            and go between two pages.
        size: The most names of the page, 1 to 1000; 0 means 100.
        token: What the page before gave; empty for the first page.

    Returns:
        The page's names, sorted, and the token of the next page; empty if this is the last.

    Raises:
        InputError: The size is out of range, or the token is not one of ours. Never right.
    """
    if not 0 <= size <= _MOST_SIZE:
        raise InputError("page_size", f"is {size}, must be at most {_MOST_SIZE}")
    size = size or _DEFAULT_SIZE
    after = _name(token)
    rest = sorted(name for name in names if name > after)
    page = rest[:size]
    return page, _token(page[-1]) if len(rest) > size else ""


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _name(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InputError(
            "page_token", f'"{token}" is no token; send the `next_page_token` of the page before'
        ) from error
