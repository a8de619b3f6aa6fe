"""Bearer tokens: a file of their hashes, read again when it changes.

    [[tokens]]
    name = "gallery"
    sha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    scopes = ["infer"]
    expires = 2027-01-01T00:00:00Z  # may be left out

Several tokens may share a name: a client that changes its token has two for a while.
"""

import hashlib
import logging
import math
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from facegen.serving.errors import ServerError
from facegen.serving.security.files import file_stamp

__all__ = ["NAME_PATTERN", "Scope", "Token", "Tokens", "digest_of"]

# Names go into logs and limits: nothing in them may pass for something else.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@/-]{0,63}$"

_LOGGER = logging.getLogger(__name__)
_CHECK_S = 1.0
_REMEDY = "`facegen token NAME --append FILE` writes correct entries"


class Scope(StrEnum):
    """What a token may allow: to look and run models; to look and change what is served."""

    INFER = "infer"
    ADMIN = "admin"


class _Entry(BaseModel):
    """One `[[tokens]]` of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    expires: AwareDatetime | None = None


class _File(BaseModel):
    """The whole file; an empty list lets nobody in, an empty file is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token that was sent.

    Attributes:
        name: Whose it is.
        scopes: What it allows.
        expires: Until when, in seconds since 1970; infinity: for ever.
    """

    name: str
    scopes: frozenset[Scope]
    expires: float


def digest_of(token: str) -> bytes:
    """Give the SHA-256 of a token, by which the file knows it."""
    return hashlib.sha256(token.encode()).digest()


class Tokens:
    """The tokens of a file.

    The file is looked at once a second at most, by a call that wants to know a token. One that
    cannot be read any more leaves those before it valid, and is logged.

    Args:
        path: The TOML file.
        clock: Seconds since 1970.

    Raises:
        ServerError: The file cannot be read, or is not right.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._reading = threading.Lock()
        self._checked = clock()
        self._stamp = file_stamp(path)
        self._tokens = _read(path, self._checked)

    def find(self, token: str) -> Token | None:
        """Give what is known of a token; None: it is unknown or has expired."""
        now = self._clock()
        # A clock that was set back must not keep the file from being read.
        if abs(now - self._checked) >= _CHECK_S:
            self._read_if_changed(now)
        # Found by its hash: how long that takes tells of the hash of what the caller sent, and
        # nobody can choose that to creep up on another one.
        found = self._tokens.get(digest_of(token))
        return found if found is not None and now < found.expires else None

    def _read_if_changed(self, now: float) -> None:
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._checked = now
            stamp = file_stamp(self._path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._tokens = _read(self._path, now)
            _LOGGER.info("tokens read path=%s count=%d", self._path, len(self._tokens))
        except ServerError as error:
            _LOGGER.error("tokens not read, those before stay valid error=%s", error)
        finally:
            self._reading.release()


def _read(path: Path, now: float) -> dict[bytes, Token]:
    try:
        entries = _File.model_validate(tomllib.loads(path.read_text("utf-8"))).tokens
    except OSError as error:
        raise ServerError(f"--tokens {path}: {error.strerror}", _REMEDY) from error
    except ValidationError as error:
        raise ServerError(f"--tokens {path}: {_first_problem(error)}", _REMEDY) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ServerError(f"--tokens {path}: {error}", _REMEDY) from error
    tokens = {bytes.fromhex(entry.sha256): _token(entry) for entry in entries}
    for token in tokens.values():
        if token.expires <= now:
            _LOGGER.warning("token has expired path=%s name=%s", path, token.name)
    return tokens


def _token(entry: _Entry) -> Token:
    expires = math.inf if entry.expires is None else entry.expires.timestamp()
    return Token(entry.name, entry.scopes, expires)


def _first_problem(error: ValidationError) -> str:
    # Without the value at fault: it may be a token that was put where its hash belongs.
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}"
