"""As much of HTTP/2 as a client needs that keeps to no rules."""

import socket
import struct
from typing import Self

__all__ = ["Connection", "framed"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING = 0, 1, 3, 4, 6
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_CANCEL = 8
_TIMEOUT_S = 30


def framed(message: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """Put gRPC's five bytes before a message, rightly or not."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


class Connection:
    """A connection on which anything may be sent; use as a context manager."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        self._next_stream = 1
        self.send(_PREFACE + _frame(_SETTINGS, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Be gone."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def begin(self, path: str, *headers: tuple[bytes, bytes], end: bool = False) -> int:
        """Begin a call, and give its stream; it ends here if so wanted, without a message."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        usual = (
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()),
            (b":authority", b"localhost"), (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )  # fmt: skip
        block = b"".join(_literal(key, value) for key, value in (*usual, *headers))
        flags = _END_HEADERS | (_END_STREAM if end else 0)
        self.send(_frame(_HEADERS, flags, stream, block))
        return stream

    def data(self, stream: int, content: bytes, *, end: bool = True) -> None:
        """Send a part of a call's messages."""
        self.send(_frame(_DATA, _END_STREAM if end else 0, stream, content))

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self.send(_frame(_RST, 0, stream, struct.pack(">I", _CANCEL)))

    def ping(self) -> None:
        """Wait until the server has read all that was sent."""
        self.send(_frame(_PING, 0, 0, b"12345678"))
        while True:
            kind, flags, _ = self.read()
            if kind == _PING and flags & _ACK:
                return

    def wait_for_end(self, stream: int) -> None:
        """Wait until the server has ended a call, with trailers or a reset."""
        while True:
            kind, flags, number = self.read()
            if number == stream and (kind == _RST or flags & _END_STREAM):
                return

    def read(self) -> tuple[int, int, int]:
        """Read a frame: its kind, flags and stream."""
        header = self._exactly(9)
        length = int.from_bytes(header[:3], "big")
        self._exactly(length)
        return header[3], header[4], int.from_bytes(header[5:], "big")

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the server has closed the connection")
            data += part
        return data


def _frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + content


def _literal(key: bytes, value: bytes) -> bytes:
    """A header that is neither indexed nor compressed (RFC 7541, 6.2.2)."""
    return b"\0" + _length(key) + key + _length(value) + value


def _length(data: bytes) -> bytes:
    """A length in 7 bits and more (RFC 7541, 5.1)."""
    if len(data) < 127:
        return bytes([len(data)])
    rest, encoded = len(data) - 127, b"\x7f"
    while rest >= 128:
        encoded += bytes([rest % 128 + 128])
        rest //= 128
    return encoded + bytes([rest])
