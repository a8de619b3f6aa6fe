"""Calls of the client's methods that are made as they are shown, and shown as they are made."""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from facegen.client import Client
from facegen.client.commands.connection import Connection
from facegen.client.commands.photos import MIME_TYPES

__all__ = ["Call", "Photo", "Request", "ShownServer", "literal"]

_WIDTH = 88


@dataclass(frozen=True, slots=True)
class Photo:
    """A visitor's photo: sent as its bytes, shown by its name.

    Attributes:
        name: The name of its file.
        data: What is in it.
    """

    name: str
    data: bytes = field(repr=False)

    @property
    def suffix(self) -> str:
        """What the files made of it end in: its own suffix, or `.png`, as of the commands."""
        own = PurePath(self.name).suffix
        return own if own.lower() in MIME_TYPES else ".png"

    @property
    def mime_type(self) -> str:
        """The format of what is made of it."""
        return MIME_TYPES[self.suffix.lower()]

    @property
    def stem(self) -> str:
        """What the names of files made of it begin with."""
        return PurePath(self.name).stem

    @property
    def argument(self) -> str:
        """Its file as a word of a command line, which no name turns into an option."""
        return f"./{self.name}" if self.name.startswith("-") else self.name


@dataclass(frozen=True, slots=True)
class ShownServer:
    """The server as people name it in their own commands and programs.

    Attributes:
        address: Where they reach it.
        connection: How the studio reaches it; a token is never shown.
    """

    address: str
    connection: Connection

    @property
    def words(self) -> list[str]:
        """The options of a command that calls it."""
        it = self.connection
        words = ["--server", self.address]
        words += ["--tls"] if it.tls and not self._tls else []
        for name, value in self._tls.items():
            words += [_option(f"tls_{name}"), value]
        return [*words, "--insecure-token"] if it.insecure_token else words

    @property
    def constructor(self) -> str:
        """A Python expression that makes a client of it."""
        it = self.connection
        arguments = [literal(self.address)]
        if it.tls or self._tls:
            tls = ", ".join(f"{name}={literal(value)}" for name, value in self._tls.items())
            arguments.append(f"credentials=Tls({tls})")
        if it.token:
            arguments.append('token=os.environ["FACEGEN_TOKEN"]')
        if it.insecure_token:
            arguments.append("insecure_token=True")
        return f"Client({', '.join(arguments)})"

    @property
    def _tls(self) -> dict[str, str]:
        it = self.connection
        named = {
            "ca": it.tls_ca,
            "certificate": it.tls_certificate,
            "key": it.tls_key,
            "server_name": it.tls_server_name,
        }
        return {name: str(value) for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method of `Client`.

    Attributes:
        method: Its name.
        arguments: By position; photos among them, at any depth, are `Photo` values.
        options: By name.
    """

    method: str
    arguments: Sequence[Any]
    options: Mapping[str, Any]

    def make(self, client: Client) -> Any:
        """Make the call.

        Raises:
            ClientError: Whatever the server answered, or that none did.
        """
        options = {name: _sent(value) for name, value in self.options.items()}
        return getattr(client, self.method)(*map(_sent, self.arguments), **options)

    def python(self, server: ShownServer, then: Sequence[str]) -> str:
        """Give a program that makes the call.

        Args:
            server: The server to call.
            then: Lines that do something with its `answer`.
        """
        constructor = server.constructor
        names = {"Client", *_names([*self.arguments, *self.options.values()])}
        names |= {"Tls"} if "Tls(" in constructor else set()
        lines = ["import os", ""] if "os.environ" in constructor else []
        lines += [
            f"from facegen.client import {', '.join(sorted(names))}",
            "",
            f"with {constructor} as client:",
            *(f"    {line}" for line in self._lines()),
            *then,
        ]
        return "\n".join(lines)

    def _lines(self) -> list[str]:
        words = [literal(it) for it in self.arguments]
        words += [f"{name}={literal(value)}" for name, value in self.options.items()]
        line = f"answer = client.{self.method}({', '.join(words)})"
        if len(line) <= _WIDTH:
            return [line]
        return [f"answer = client.{self.method}(", *(f"    {word}," for word in words), ")"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a visitor asked for, to be made here or by themselves.

    Attributes:
        call: The call.
        command: The words of the `facegen` command that does the same.
        then: Lines of Python that write the files which the command writes.
    """

    call: Call
    command: Sequence[str]
    then: Sequence[str]

    def command_line(self, server: ShownServer) -> str:
        """Give the command for a shell."""
        return shlex.join(["facegen", *self.command, *server.words])

    def python(self, server: ShownServer) -> str:
        """Give the program."""
        return self.call.python(server, self.then)


def literal(value: Any) -> str:
    """Give the Python expression of a value; of photos, their names."""
    if isinstance(value, Photo):
        return literal(value.name)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(it)}" for key, it in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        given = [
            f"{it.name}={literal(getattr(value, it.name))}"
            for it in dataclasses.fields(value)
            if getattr(value, it.name) != it.default
        ]
        return f"{type(value).__name__}({', '.join(given)})"
    return repr(value)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _sent(value: Any) -> Any:
    """Put the bytes of photos in their places."""
    if isinstance(value, Photo):
        return value.data
    return [_sent(it) for it in value] if isinstance(value, list) else value


def _names(values: Sequence[Any]) -> Iterator[str]:
    """Give the names that the expressions of values need imported."""
    for value in values:
        if isinstance(value, list):
            yield from _names(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, Photo):
            yield type(value).__name__
