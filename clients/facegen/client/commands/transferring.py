"""Transferring expressions photo by photo, several at once: what `facegen transfer` does."""

import re
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facegen.client.client import Client
from facegen.client.commands.photos import Photo
from facegen.client.errors import (
    ClientError,
    DeadlineError,
    FileError,
    InvalidRequestError,
    ResourceExhaustedError,
    ServerError,
)
from facegen.client.files import read_picture
from facegen.client.types import (
    ExpressionTarget,
    FoundFace,
    Transferred,
    TransferredPhoto,
    TransferView,
)

__all__ = ["Outcome", "Transfer"]

_SHEET = "expressions"
# The pictures of a large photo are together too large for one message.
_TOO_MUCH = "RESPONSE_SIZE"
# A request's words for what the command calls otherwise.
_OPTIONS = {"FACE_FINDING_CROPPED": "--cropped", "max_faces": "--max-faces"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo.

    Attributes:
        photo: Its file.
        files: The files made of it; those there were, if none had to be made.
        faces: The faces found.
        skipped: Whether the files were there, and no server was asked.
        error: Why there are none; empty: there are.
        reason: The same for machines, for example `NO_FACE`.
        model: The family and version that drew them.
    """

    photo: Path
    files: tuple[Path, ...] = ()
    faces: tuple[FoundFace, ...] = ()
    skipped: bool = False
    error: str = ""
    reason: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What to make of each photo.

    Attributes:
        targets: The expressions; empty, on a sheet: every one that the family has.
        view: What to make: photos, crops of their faces, or sheets.
        arguments: The arguments of `Client.transfer` that are the same for every photo.
        file: The one file to write, whatever there is; None: each photo's own, those missing.
        overwrite: Whether files that are there are made again.
    """

    targets: tuple[ExpressionTarget, ...]
    view: TransferView
    arguments: dict[str, Any]
    file: Path | None = None
    overwrite: bool = False

    def skip(self, photo: Photo) -> Outcome | None:
        """Give the outcome of a photo that there is nothing to make of; None: there is."""
        files = [self._file(photo, label) for label in self._labels]
        if not self._again and all(map(Path.exists, files)):
            return Outcome(photo.path, tuple(files), skipped=True)
        return None

    def run(self, client: Client, photos: Sequence[Photo], *, jobs: int) -> Generator[Outcome]:
        """Transfer photos, giving the outcome of each as it comes.

        Args:
            client: The client, to be closed after this: that ends the calls still under way.
            photos: The photos.
            jobs: How many are under way at once, so that the server can run them as one batch.

        Raises:
            ClientError: Every photo would meet it: the server is gone, or the request never right.
        """
        pool = ThreadPoolExecutor(jobs)
        try:
            calls = [pool.submit(self._transfer, client, photo) for photo in photos]
            for call in as_completed(calls):
                yield call.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _again(self) -> bool:
        return self.overwrite or self.file is not None

    @property
    def _labels(self) -> tuple[str, ...]:
        """What tells the files of a photo apart: the expression, and the strength if need be."""
        if self.view == "sheet":
            return (_SHEET,)
        counts = Counter(target.expression for target in self.targets)
        return tuple(
            target.expression + (f"-{target.strength:g}" if counts[target.expression] > 1 else "")
            for target in self.targets
        )

    def _missing(self, photo: Photo) -> tuple[Sequence[ExpressionTarget], Sequence[str]]:
        """Give the targets whose files have to be made, and what tells these files apart."""
        if self.view == "sheet" or self._again:
            return self.targets, self._labels
        pairs = zip(self.targets, self._labels, strict=True)
        missing = [pair for pair in pairs if not self._file(photo, pair[1]).exists()]
        return [target for target, _ in missing], [label for _, label in missing]

    def _file(self, photo: Photo, label: str, *, face_index: int | None = None) -> Path:
        if self.view == "crop":
            label = f"face{face_index or 0}-{label}"
        return self.file or photo.file(label)

    def _transfer(self, client: Client, photo: Photo) -> Outcome:
        try:
            data = read_picture(photo.path)
            targets, labels = self._missing(photo)
            answer = self._ask(client, data, photo.mime_type, targets)
            files = self._save(photo, answer.photos[0], labels)
        except ClientError as error:
            if not _concerns_the_photo(error):
                raise
            return Outcome(photo.path, error=_message(error, photo.path), reason=error.reason)
        used = f"{answer.family} {answer.version}"
        return Outcome(photo.path, files, answer.photos[0].faces, model=used)

    def _ask(
        self, client: Client, data: bytes, mime_type: str, targets: Sequence[ExpressionTarget]
    ) -> Transferred:
        def ask(some: Sequence[ExpressionTarget]) -> Transferred:
            answer = client.transfer(
                [data], some, view=self.view, mime_type=mime_type, **self.arguments
            )
            if len(answer.photos) != 1:
                raise ServerError(f"the server answered 1 photo with {len(answer.photos)}")
            return answer

        try:
            return ask(targets)
        except InvalidRequestError as error:
            if error.reason != _TOO_MUCH or self.view != "photo" or len(targets) < 2:
                raise
        answers = [ask([target]) for target in targets]
        images = [image for answer in answers for image in answer.photos[0].images]
        photo = TransferredPhoto(tuple(images), answers[0].photos[0].faces)
        return Transferred((photo,), answers[0].family, answers[0].version)

    def _save(
        self, photo: Photo, made: TransferredPhoto, labels: Sequence[str]
    ) -> tuple[Path, ...]:
        face_count = len(made.faces) if self.view == "crop" else 1
        if not made.images or len(made.images) != face_count * len(labels):
            raise ServerError(
                f"the server sent {len(made.images)} pictures of {face_count * len(labels)}"
            )
        files = {}
        for number, image in enumerate(made.images):
            label = labels[number % len(labels)]
            files[self._file(photo, label, face_index=image.face_index)] = image.image
        first = next(iter(files))
        try:
            first.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                first.parent, problem=f"cannot make the folder: {error.strerror}"
            ) from error
        # The first face comes last: where its files are, those of the others are too.
        for file, picture in reversed(files.items()):
            picture.save(file)
        return tuple(files)


def _concerns_the_photo(error: ClientError) -> bool:
    """Tell whether other photos may do better."""
    if isinstance(error, InvalidRequestError):
        return not error.field or error.field.startswith("images")
    return isinstance(error, FileError | ResourceExhaustedError | DeadlineError | ServerError)


def _message(error: ClientError, photo: Path) -> str:
    """Give an error's message, the photo named by its file and options as they are called here."""
    if isinstance(error, FileError):
        return str(error)
    message = re.sub(r"^images\[0\](\.data)?: ", "", str(error))
    for word, option in _OPTIONS.items():
        message = message.replace(word, option)
    return f"{photo}: {message}"
