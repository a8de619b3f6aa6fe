"""What the test of the code blocks leaves out of the pages, or shortens, and why.

A key is a command without its comment, or the line of a Python block; with … at its end, how these
begin. One that its page no longer has fails the test.
"""

from collections.abc import Mapping

from tests.docs.code_blocks import Change

__all__ = ["CHANGES", "NOT_RUN"]

_SET_UP = Change("sets up the environment that the test runs in")
_DOCKER = Change("needs a Docker engine")
_NO_GRPCURL = Change("grpcurl is in no package that the tests install")
_INSTALLED = Change("is installed already, from the checkout")

_TINY = "--set 'model.widths=[8, 8, 8, 8, 8]' --set batch_size=16 --epochs 1"
_RENDER = "facegen render generate --family celeba-vae"
_HOURS = "the preset trains for an hour or more"
_MANY = "so many faces take minutes"

CHANGES: Mapping[str, Mapping[str, Change]] = {
    "README.md": {
        "make …": _SET_UP,
        "facegen render generate …": Change(_MANY, "--count 200"),
        "facegen train faces --images photos/": Change(_HOURS, _TINY),
        "facegen train faces-sharp --images photos/": Change(
            _HOURS, f"{_TINY} --set model.head_width=8"
        ),
        "facegen evaluate …": Change("1,000 pictures take minutes", "--count 8"),
        "facegen export …": Change("timing all forms of graphs takes a minute", "--repetitions 0"),
    },
    "clients/README.md": {
        "pip install …": _INSTALLED,
        "facegen studio …": Change("serves until it is stopped; tests/studio/ does"),
        "from facegen.client import Client, Tls": Change("has placeholders for a server"),
    },
    "docs/deployment.md": {
        "docker …": _DOCKER,
        "FACEGEN_TRACES=otlp docker …": _DOCKER,
        "sudo …": Change("gives files to the container's user"),
        "kubectl …": Change("needs a cluster"),
    },
    "docs/how-to/other-languages.md": {
        "buf generate": Change("fetches plugins from the network"),
        "grpcurl …": _NO_GRPCURL,
    },
    "docs/rendering.md": {
        "pip install …": _INSTALLED,
        f"{_RENDER} --count 1000000 --seed 7 --out faces": Change(_MANY, "--count 200"),
        "facegen render run …": Change(
            "writes into a bucket, on a cluster; tests/serving/rendering/ does both"
        ),
        "import datasets, …": Change(
            "wants a data set of each format; tests/serving/rendering/test_containers.py opens them"
        ),
        "facegen train …": Change("trains for hours; the tutorial trains on what is rendered"),
        "facegen evaluate rendered …": Change("needs CelebA"),
    },
    "docs/scaling.md": {
        "envoy …": Change("runs until it is stopped; tests/deploy/test_envoy.py runs it"),
    },
    "docs/serving.md": {
        "pip install …": _INSTALLED,
        "facegen doctor --engine onnx:models": Change(
            "the probe takes a second a graph", "--probe-s 0"
        ),
        "    client.load_model(…": Change(
            "wants another server; tests/serving/kserve/test_models.py does it"
        ),
        "from kserve import …": Change("its SDK is tried by tests/serving/kserve/test_clients.py"),
        "grpcurl …": _NO_GRPCURL,
        "tritonserver …": Change("Triton is a peer, with an environment of its own"),
        "facegen serve --engine triton://localhost:8001": Change("needs that Triton"),
        "facegen serve --tokens …": Change(
            "needs certificates; tests/serving/test_security.py makes some"
        ),
        "FACEGEN_TOKEN=… …": Change("has a placeholder for the token"),
    },
    "docs/tutorial.md": {"make install && …": _SET_UP},
    "protos/README.md": {"make protos": Change("writes into the checkout")},
    "serving/README.md": {
        "pip install …": _INSTALLED,
        "facegen render generate …": Change(_MANY, "--count 200 --out rendered"),
    },
}

NOT_RUN: Mapping[str, str] = {
    "docs/how-to/gpus.md": "needs a GPU",
    "docs/how-to/train.md": "trains for hours; other pages run the commands for faces, "
    "tests/training/ those for expressions and meshes",
    "docs/index.md": "sets up the environment that the test runs in",
    "docs/studio.md": "serves until it is stopped; tests/studio/ does, with a browser",
    "docs/releases.md": "makes a release; tests/deploy/test_release.py does",
}
"""Pages of which no block runs; what their `facegen` commands say is checked all the same."""
