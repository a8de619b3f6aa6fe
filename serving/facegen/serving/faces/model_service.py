"""The gRPC service that tells which families are served."""

from facegen.serving.call_context import CallContext
from facegen.serving.errors import InputError
from facegen.serving.faces import convert
from facegen.serving.faces.family import Family
from facegen.serving.faces.latent_family import find_family
from facegen.serving.faces.paging import page_of
from facegen.serving.faces.service_state import ServiceState
from facegen.serving.meshes import messages
from facegen.serving.meshes.family import MeshFamily
from facegen.serving.rpc.calls import answers
from facegen.v1 import model_service_pb2 as pb
from facegen.v1.model_service_pb2_grpc import ModelServiceServicer

__all__ = ["ModelService"]


class ModelService(ModelServiceServicer):
    """Tells which families are served."""

    def __init__(self, state: ServiceState) -> None:
        self.calls = state.calls
        self._state = state

    @answers
    def ListModels(  # noqa: N802 - gRPC's name
        self, request: pb.ListModelsRequest, context: CallContext
    ) -> pb.ListModelsResponse:
        """List the families by name, the newest version of each."""
        families = {family.name: family for family in self._families}
        page, token = page_of(list(families), size=request.page_size, token=request.page_token)
        return pb.ListModelsResponse(
            models=[_message(families[name]) for name in page], next_page_token=token
        )

    @answers
    def GetModel(  # noqa: N802 - gRPC's name
        self, request: pb.GetModelRequest, context: CallContext
    ) -> pb.GetModelResponse:
        """Describe one family."""
        if not request.family:
            raise InputError("family", "is empty; ListModels tells the names")
        family = find_family(self._families, request.family, version=request.version)
        return pb.GetModelResponse(model=_message(family))

    @property
    def _families(self) -> tuple[Family | MeshFamily, ...]:
        """All that are served, versions rising."""
        return (*self._state.open_pipelines().families, *self._state.mesh_families)


def _message(family: Family | MeshFamily) -> pb.Model:
    if isinstance(family, Family):
        return convert.picture_model_message(family)
    return messages.mesh_model_message(family)
