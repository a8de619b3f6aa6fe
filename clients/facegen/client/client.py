"""The client for code that waits for its answers."""

from collections.abc import Iterable, Iterator, Mapping

from facegen.client import convert, requests
from facegen.client.mesh_client import MeshClient
from facegen.client.types import (
    Animation,
    Crop,
    Decoded,
    Edited,
    EditView,
    Encoding,
    Endpoint,
    ExpressionTarget,
    Face,
    FaceFinding,
    FaceSource,
    Generated,
    ImageSource,
    Interpolated,
    Interpolation,
    Latent,
    Reconstructed,
    Transferred,
    TransferView,
    Traversal,
)

__all__ = ["Client"]


class Client(MeshClient):
    """Calls a facegen server; may be shared between threads.

    Every method raises a `ClientError`, never a bare `grpc.RpcError`: `InvalidRequestError` and
    `NotFoundError` if the request can never succeed, `UnavailableError`, `DeadlineError` and
    `ResourceExhaustedError` if it may later (the client has already tried again), `FileError` if a
    picture given by its path cannot be read.

    Args:
        address: `host:port`, or any target gRPC understands (`dns:///…`, `unix:…`).
        timeout_s: Seconds within which a call must be answered, retries included.
        wait_for_ready: Whether calls wait for a server that is not there yet, up to their timeout.
        retry: When failed calls are made again.
        credentials: `Tls()`, or gRPC's own; None: plain text.
        token: A bearer token; sent only over TLS, or within this machine.
        insecure_token: Whether it may be sent in plain text to other machines all the same.

    Raises:
        FileError: A file of `credentials` cannot be read.
        TokenError: The token would leave this machine in plain text.

    Example:
        >>> with Client("localhost:50051") as client:  # doctest: +SKIP
        ...     for face in client.generate(4, seed=7).faces:
        ...         face.image.save(f"{face.index}.png")
    """

    def generate(
        self,
        count: int,
        *,
        family: str = "",
        version: str = "",
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        prior: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
        include_latents: bool = False,
    ) -> Generated:
        """Draw faces from a prior: face i of a seed is the same in every call.

        Args:
            count: How many, 1 to the server's limit (256 unless configured); `generate_stream` has
                none.
            family: The family to draw from; empty: the server's default.
            version: Its version; empty: the newest.
            seed: 0 to 2**64 - 1; None: drawn by the server, and part of the answer.
            first_index: The index of the first face under the seed.
            temperature: Standard deviation of the noise, 0 to 10; None: 1.
            prior: The name of one of the family's priors; empty: its default.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
            include_latents: Whether each face brings its latent.
        """
        request = requests.generate_request(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_latents=include_latents,
        )
        return convert.generated(self._call(self._faces.Generate, request))

    def generate_stream(
        self,
        count: int,
        *,
        family: str = "",
        version: str = "",
        seed: int | None = None,
        first_index: int = 0,
        temperature: float | None = None,
        prior: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
        include_latents: bool = False,
    ) -> Iterator[Face]:
        """Draw any number of faces, given as they are made; the arguments are those of `generate`.

        If the server goes away the stream resumes at the next face by itself. It fails only when no
        face has come for as long as the client's timeout.
        """
        request = requests.generate_stream_request(
            count,
            family=family,
            version=version,
            seed=seed,
            first_index=first_index,
            temperature=temperature,
            prior=prior,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_latents=include_latents,
        )
        return self._stream(self._faces.GenerateStream, request, convert.faces)

    def reconstruct(
        self,
        images: Iterable[ImageSource],
        *,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
        include_inputs: bool = False,
    ) -> Reconstructed:
        """Encode pictures and decode their latents.

        Args:
            images: Encoded bytes, paths or `Image` values, 1 to the server's limit.
            family: The family to use; empty: the server's default.
            version: Its version; empty: the newest.
            crop: Which square of each picture the model sees; None: the central one.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
            include_inputs: Whether the model's view of each picture is given too.
        """
        request = requests.reconstruct_request(
            images,
            family=family,
            version=version,
            crop=crop,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
            include_inputs=include_inputs,
        )
        return convert.reconstructed(self._call(self._faces.Reconstruct, request))

    def encode(
        self,
        images: Iterable[ImageSource],
        *,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
    ) -> tuple[Encoding, ...]:
        """Give the latents of pictures; the arguments are those of `reconstruct`."""
        request = requests.encode_request(images, family=family, version=version, crop=crop)
        response = self._call(self._faces.Encode, request)
        return convert.encodings(response.encodings)

    def decode(
        self,
        latents: Iterable[Latent],
        *,
        family: str = "",
        version: str = "",
        expression: str = "",
        mime_type: str = "image/png",
        quality: int | None = None,
    ) -> Decoded:
        """Draw the pictures of latents.

        Args:
            latents: 1 to the server's limit, all of one family and version.
            family: The family to use; empty: that of the first latent.
            version: Its version; empty: that of the first latent.
            expression: The expression to draw, of a family that has some; empty: its first.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
        """
        request = requests.decode_request(
            latents,
            family=family,
            version=version,
            expression=expression,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.decoded(self._call(self._faces.Decode, request))

    def interpolate(
        self,
        start: Endpoint,
        end: Endpoint,
        *,
        count: int,
        interpolation: Interpolation = "spherical",
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
        expression: str = "",
        animation: Animation | None = None,
        mime_type: str = "",
        quality: int | None = None,
    ) -> Interpolated:
        """Draw the path between two faces.

        Args:
            start: Where it begins: a picture (bytes, path or `Image`), a `Latent`, or a face of a
                seed (`DrawnFace`).
            end: Where it ends.
            count: The number of pictures, both ends included: 2 to the server's limit.
            interpolation: `linear`, or `spherical` (which keeps the latent's norm).
            family: The family to use; empty: the server's default.
            version: Its version; empty: the newest.
            crop: Which square of a picture the model sees; None: the central one.
            expression: The expression to draw, of a family that has some; empty: its first.
            animation: Asks for the whole path as one animated picture.
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`; empty: `image/png`.
                Of an animation `image/webp` or `image/gif`; empty: `image/webp`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.
        """
        request = requests.interpolate_request(
            start,
            end,
            count=count,
            interpolation=interpolation,
            family=family,
            version=version,
            crop=crop,
            expression=expression,
            animation=animation,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.interpolated(self._call(self._faces.Interpolate, request))

    def edit(
        self,
        faces: Iterable[FaceSource],
        moves: Mapping[str, float] | None = None,
        *,
        traversal: Traversal | None = None,
        family: str = "",
        version: str = "",
        crop: Crop | None = None,
        view: EditView | None = None,
        animation: Animation | None = None,
        mime_type: str = "",
        quality: int | None = None,
    ) -> Edited:
        """Move faces along directions: more of this attribute, less of that, all else kept.

        Args:
            faces: Pictures, latents and faces of seeds.
            moves: How far along which of the family's `directions`, all at once, -20 to 20. Of an
                attribute 1 goes from a face without it to one with it; of a component it is one
                standard deviation. May be empty with a traversal.
            traversal: Asks for a row of pictures of each face.
            family: The family to use; empty: that of the first latent, else the server's default if
                it has directions, else the first by name that has.
            version: Its version; empty: that of the first latent, else the newest.
            crop: Which square of a picture the model sees; None: the central one.
            view: `photo` (of pictures), `crop` (likewise) or `decoded`; None: photos come as
                themselves with what the moves change, other faces decoded.
            animation: Asks for each face's traversal as one animated picture.
            mime_type: As of `interpolate`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.

        Raises:
            InvalidRequestError: Among others, there is no such direction; near ones are named.
            FailedPreconditionError: The family has no directions.
        """
        request = requests.edit_request(
            faces,
            moves,
            traversal=traversal,
            family=family,
            version=version,
            crop=crop,
            view=view,
            animation=animation,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.edited(self._call(self._faces.Edit, request))

    def transfer(
        self,
        images: Iterable[ImageSource],
        targets: Iterable[ExpressionTarget | str] = (),
        *,
        family: str = "",
        version: str = "",
        finding: FaceFinding = "detect",
        max_faces: int | None = None,
        view: TransferView = "photo",
        mime_type: str = "image/png",
        quality: int | None = None,
    ) -> Transferred:
        """Give the faces of photos other expressions; all else in them stays.

        Args:
            images: Photos as encoded bytes, paths or `Image` values, 1 to the server's limit.
            targets: The expressions wanted, those given by name alone at strength 1; empty: each
                of the family's `expressions`.
            family: The family to use; empty: the server's default if it has expressions, else the
                first by name that has.
            version: Its version; empty: the newest.
            finding: `detect`, or `cropped`: a photo's central square frames one face.
            max_faces: The most faces in a photo, 1 to 32; None: 8. One with more is refused.
            view: `photo`, `crop` (each face alone, aligned, grey and at the model's size) or
                `sheet` (one labelled picture of a photo's faces with every target).
            mime_type: `image/png`, `image/jpeg`, `image/webp` or `RAW_PIXELS`.
            quality: Of JPEG and WebP, 1 to 100; None: 90.

        Raises:
            InvalidRequestError: Among others, a photo shows no face, one too small, or too many:
                `field` says which photo (`images[2]`), `reason` is `NO_FACE`, `FACE_TOO_SMALL` or
                `TOO_MANY_FACES`. No photo of the call is then answered.
            FailedPreconditionError: The family has no expressions.
        """
        request = requests.transfer_request(
            images,
            targets,
            family=family,
            version=version,
            finding=finding,
            max_faces=max_faces,
            view=view,
            mime_type=mime_type,
            quality=quality,
        )
        return convert.transferred(self._call(self._faces.Transfer, request), view=view)
