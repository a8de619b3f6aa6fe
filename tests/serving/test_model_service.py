from collections.abc import Iterator

import grpc
import pytest

from facegen.serving.errors import InputError
from facegen.serving.faces.paging import page_of
from facegen.v1 import model_service_pb2 as pb
from facegen.v1.model_service_pb2_grpc import ModelServiceStub


@pytest.fixture
def models(server_address: str) -> Iterator[ModelServiceStub]:
    with grpc.insecure_channel(server_address) as channel:
        yield ModelServiceStub(channel)


def test_families_are_listed_by_name_with_their_facts(models: ModelServiceStub) -> None:
    answer = models.ListModels(pb.ListModelsRequest())

    assert [model.family for model in answer.models] == ["tiny-ae", "tiny-vae"]
    assert not answer.next_page_token
    vae = answer.models[1]
    assert vae.kind == pb.MODEL_KIND_VAE
    assert (vae.version, vae.latent_size, vae.height_px, vae.channel_count) == ("1", 8, 64, 3)
    assert sorted(vae.priors) == ["mixture", "normal"]
    assert "tiny-vae-decoder" in vae.graphs


def test_pages_follow_each_other(models: ModelServiceStub) -> None:
    first = models.ListModels(pb.ListModelsRequest(page_size=1))
    second = models.ListModels(pb.ListModelsRequest(page_size=1, page_token=first.next_page_token))

    assert [model.family for model in first.models] == ["tiny-ae"]
    assert [model.family for model in second.models] == ["tiny-vae"]
    assert not second.next_page_token


def test_family_is_described(models: ModelServiceStub) -> None:
    model = models.GetModel(pb.GetModelRequest(family="tiny-ae", version="1")).model

    assert (model.family, model.kind) == ("tiny-ae", pb.MODEL_KIND_AUTOENCODER)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.GetModelRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.GetModelRequest(family="nobody"), grpc.StatusCode.NOT_FOUND),
        (pb.GetModelRequest(family="tiny-ae", version="7"), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_unknown_family_is_not_found(
    models: ModelServiceStub, request_: pb.GetModelRequest, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        models.GetModel(request_)

    assert caught.value.code() == code


@pytest.mark.parametrize("token", ["tiny-ae", "!!", "YQ", "4piD\n", "/w=="])
def test_token_of_somebody_else_is_refused(models: ModelServiceStub, token: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        models.ListModels(pb.ListModelsRequest(page_token=token))

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token" in str(caught.value.details())


def test_pages_hold_hundred_by_default_and_thousand_at_most() -> None:
    names = [f"family-{i:04}" for i in range(250)]
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        page, token = page_of(names, size=0, token=token)
        pages.append(page)

    assert [len(page) for page in pages] == [100, 100, 50]
    assert [name for page in pages for name in page] == names
    with pytest.raises(InputError, match="page_size"):
        page_of(names, size=1001, token="")
