"""What the services share."""

from dataclasses import dataclass

from facegen.serving.errors import NotReadyError
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import ImagingPool
from facegen.serving.rpc.calls import Calls

__all__ = ["ServiceState"]


@dataclass(slots=True)
class ServiceState:
    """What the services share; the pipelines come when the models are warm.

    Attributes:
        calls: What every call goes through.
        imaging: Reads and codes pictures.
        max_images: The most pictures of a request.
        default_family: The family of requests that name none; empty: the first VAE by name.
        max_response_bytes: The most bytes that the pictures of a response may have.
        pipelines: None until the server serves.
    """

    calls: Calls
    imaging: ImagingPool
    max_images: int
    default_family: str = ""
    max_response_bytes: int = 64 * 1024 * 1024
    pipelines: Pipelines | None = None

    def open_pipelines(self) -> Pipelines:
        """Give the pipelines.

        Raises:
            NotReadyError: The models are still loading. Retry.
        """
        if self.pipelines is None:
            raise NotReadyError("the server")
        return self.pipelines
