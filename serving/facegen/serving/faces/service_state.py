"""What the services share."""

from dataclasses import dataclass

from facegen.serving.rpc.calls import Calls
from facegen.serving.errors import EngineClosedError
from facegen.serving.imaging import ImagingPool
from facegen.serving.faces.pipelines import Pipelines

__all__ = ["ServiceState"]


@dataclass(slots=True)
class ServiceState:
    """What the services share; the pipelines come when the models are warm.

    Attributes:
        calls: Counts the calls being answered.
        imaging: Reads and codes pictures.
        max_images: The most pictures of a request.
        default_family: The family of requests that name none.
        pipelines: None until the server serves.
    """

    calls: Calls
    imaging: ImagingPool
    max_images: int
    default_family: str = ""
    pipelines: Pipelines | None = None

    def open_pipelines(self) -> Pipelines:
        """Give the pipelines.

        Raises:
            EngineClosedError: The models are still loading. Retry.
        """
        if self.pipelines is None:
            raise EngineClosedError("the server is starting")
        return self.pipelines
