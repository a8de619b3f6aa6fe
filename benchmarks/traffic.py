"""Callers that never rest: the client's own calls with its default retries, and what they gave."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from facegen.client import RAW_PIXELS, Client, FaceFinding, Image, ImageSource, TransferView
from facegen.client.errors import ClientError

__all__ = [
    "Answer",
    "Job",
    "Record",
    "drawing",
    "encoding",
    "reference",
    "streaming",
    "traffic",
    "transferring",
]

# Each request comes again and again, so that its answers can be compared.
_REQUESTS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave.

    Attributes:
        call: What was asked for.
        version: The version of the family that answered.
        digest: Of the answer's content.
        end_s: When it was there.
    """

    call: str
    version: str
    digest: str
    end_s: float = field(compare=False)


Job = Callable[[Client, int], Answer]
"""Makes the call of a number; calls of the same number ask for the same."""


@dataclass(slots=True)
class Record:
    """What came of all calls.

    Attributes:
        start_s: When the first began.
        answers: Of calls that were answered.
        seconds: How long those took.
        failures: What the others raised.
    """

    start_s: float = field(default_factory=time.monotonic)
    answers: list[Answer] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def versions(self) -> set[str]:
        """The versions that answered."""
        return {answer.version for answer in self.answers}

    def wrong(self, right: set[Answer]) -> list[Answer]:
        """Give the answers that are not among the right ones."""
        return [answer for answer in self.answers if answer not in right]

    def duration_s(self) -> float:
        """The time from the first call to the last answer."""
        return max(answer.end_s for answer in self.answers) - self.start_s

    def longest_gap_s(self) -> float:
        """The longest time in which nobody had an answer."""
        ends_s = sorted([self.start_s, *(answer.end_s for answer in self.answers)])
        return max(later - earlier for earlier, later in pairwise(ends_s))


@contextmanager
def traffic(address: str, jobs: Sequence[Job]) -> Iterator[Record]:
    """Make calls until the end of the block, each job in a thread and with a client of its own."""
    record, stop = Record(), threading.Event()

    def run(job: Job) -> None:
        number = 0
        with Client(address) as client:
            while not stop.is_set():
                begin_s = time.monotonic()
                try:
                    record.answers.append(job(client, number % _REQUESTS))
                    record.seconds.append(time.monotonic() - begin_s)
                except ClientError as error:
                    record.failures.append(str(error))
                number += 1

    with ThreadPoolExecutor(len(jobs)) as threads:
        running = [threads.submit(run, job) for job in jobs]
        try:
            yield record
        finally:
            stop.set()
    for thread in running:
        thread.result()


def reference(address: str, jobs: Sequence[Job]) -> set[Answer]:
    """Make every call of some jobs once, on one server."""
    with Client(address) as client:
        return {job(client, number) for job in jobs for number in range(_REQUESTS)}


def drawing(family: str, count: int, *, mime_type: str = RAW_PIXELS) -> Job:
    """Calls of Generate."""

    def draw(client: Client, seed: int) -> Answer:
        drawn = client.generate(count, family=family, seed=seed, mime_type=mime_type)
        images = [face.image for face in drawn.faces]
        return _answer(f"{count} faces of seed {seed}", drawn.version, images)

    return draw


def streaming(family: str, count: int) -> Job:
    """Streams of GenerateStream, each from its first face to its last."""

    def draw(client: Client, seed: int) -> Answer:
        faces = list(client.generate_stream(count, family=family, seed=seed, mime_type=RAW_PIXELS))
        versions = {face.version for face in faces}
        assert [face.index for face in faces] == list(range(count)), "the stream has gaps"
        images = [face.image for face in faces]
        return _answer(f"a stream of seed {seed}", ",".join(sorted(versions)), images)

    return draw


def transferring(photo: ImageSource, *, family: str, finding: FaceFinding = "detect") -> Job:
    """Calls of Transfer: a face with every expression, crops or pasted back."""

    def transfer(client: Client, number: int) -> Answer:
        view: TransferView = "crop" if number % 2 else "photo"
        given = client.transfer(
            [photo], family=family, finding=finding, view=view, mime_type=RAW_PIXELS
        )
        images = [made.image for made in given.photos[0].images]
        return _answer(f"expressions, {view}", given.version, images)

    return transfer


def encoding(photo: ImageSource, *, family: str) -> Job:
    """Calls of Encode, with the same photo up to eight times."""

    def encode(client: Client, number: int) -> Answer:
        made = client.encode([photo] * (number + 1), family=family)
        values = repr([each.mean.values for each in made]).encode()
        (version,) = {each.mean.version for each in made}
        return Answer(f"{number} latents", version, _digest(values), time.monotonic())

    return encode


def _answer(call: str, version: str, images: Sequence[Image]) -> Answer:
    content = b"".join(image.data for image in images)
    return Answer(call, version, _digest(content), time.monotonic())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
