"""What the services of pictures and of meshes share: which family is meant, and how to answer."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message

from facegen.errors import FacegenError
from facegen.serving.errors import CapabilityError, NotReadyError, UnknownFamilyError
from facegen.serving.faces import convert
from facegen.serving.faces.latent_family import LatentFamily
from facegen.serving.faces.latent_pipelines import LatentPipelines
from facegen.serving.imaging import ImagingPool
from facegen.serving.rpc.calls import Finish

__all__ = ["answering", "served_family"]

AnyFamily = TypeVar("AnyFamily", bound=LatentFamily)
# By whether they are of meshes: what families make, and the service that they are for.
_SERVICES = {False: ("pictures", "FaceService"), True: ("meshes", "MeshService")}


def served_family(
    pipelines: LatentPipelines[AnyFamily],
    name: str,
    *,
    version: str,
    fields: tuple[str, str] = ("family", "version"),
    others: LatentPipelines[Any] | None,
) -> AnyFamily:
    """Find the family that a request addresses.

    Args:
        pipelines: Of the families that it could be.
        name: The family's name; empty if none is served.
        version: What the request says; may be empty.
        fields: Where the request says so, for the error.
        others: Of the families that are for the other service; None: there are none.

    Raises:
        UnknownFamilyError: It is not served. Never right.
        CapabilityError: It is for the other service.
        NotReadyError: It is loading. Retry.
    """
    try:
        return convert.addressed_family(pipelines.families, name, version=version, fields=fields)
    except UnknownFamilyError as error:
        if pipelines.partial(name):
            raise NotReadyError(f'family "{name}"') from error
        if others is not None and name in {family.name for family in others.families}:
            made, service = _SERVICES[others.of_meshes]
            raise CapabilityError(
                f'family "{name}" makes {made}', f"call {service}, or name another family"
            ) from error
        raise


def answering(
    respond: Callable[[Any], Message], finish: Finish, *, imaging: ImagingPool, quick: bool
) -> Callable[[Any], None]:
    """Give what pipelines are to call back: it codes what was drawn, and answers.

    Args:
        respond: Makes the response of what the pipelines give.
        finish: Takes it.
        imaging: Has threads to code in.
        quick: Whether that takes no longer than to hand it to a thread of the imaging pool; then
            the engine's thread does it.
    """

    def answer(result: Any) -> None:
        try:
            finish(respond(result))
        except Exception as error:  # the outermost frame of a call
            finish(error)

    def done(result: Any) -> None:
        if isinstance(result, FacegenError):
            finish(result)
        elif quick:
            answer(result)
        else:
            imaging.begin(partial(answer, result))

    return done
