"""What the services share."""

from dataclasses import dataclass

from facegen.serving.errors import NotReadyError
from facegen.serving.faces.pipelines import Pipelines
from facegen.serving.imaging import ImagingPool
from facegen.serving.meshes.family import MeshFamily
from facegen.serving.meshes.pipelines import MeshPipelines
from facegen.serving.rpc.calls import Calls

__all__ = ["ServiceState"]


@dataclass(slots=True)
class ServiceState:
    """What the services share; the pipelines come when the models are warm.

    Attributes:
        calls: What every call goes through.
        imaging: Reads and codes pictures.
        max_images: The most pictures or meshes of a request.
        default_family: The family of requests that name none; empty: the first VAE by name, of
            meshes the first by name.
        max_response_bytes: The most bytes that the pictures or meshes of a response may have.
        pipelines: Of pictures; None until the server serves.
        meshes: Of meshes, likewise.
    """

    calls: Calls
    imaging: ImagingPool
    max_images: int
    default_family: str = ""
    max_response_bytes: int = 64 * 1024 * 1024
    pipelines: Pipelines | None = None
    meshes: MeshPipelines | None = None

    def open_pipelines(self) -> Pipelines:
        """Give the pipelines of pictures.

        Raises:
            NotReadyError: The models are still loading. Retry.
        """
        if self.pipelines is None:
            raise NotReadyError("the server")
        return self.pipelines

    def open_meshes(self) -> MeshPipelines:
        """Give the pipelines of meshes.

        Raises:
            NotReadyError: The models are still loading. Retry.
        """
        if self.meshes is None:
            raise NotReadyError("the server")
        return self.meshes

    @property
    def mesh_families(self) -> tuple[MeshFamily, ...]:
        """The families of meshes that are served now."""
        return self.meshes.families if self.meshes else ()
