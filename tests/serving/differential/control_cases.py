"""Calls about the server, its models and its settings, good and bad."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.serving.differential.replay import Case

__all__ = ["control_cases"]


def control_cases() -> Iterator[Case]:
    """All of them, in an order that matters: models are unloaded and loaded."""
    yield _case("live", "ServerLive")
    yield _case("ready", "ServerReady")
    yield from _facts()
    yield from _index()
    yield from _loads()
    yield from _unloads()
    yield from _regions()
    yield from _logs()
    yield from _traces()
    # At the end, for Triton serves it from then on.
    yield _case("load a path", "RepositoryModelLoad", model_name="../repository/double")


def _case(case: str, method: str, /, **fields: Any) -> Case:
    return Case(case, method, (fields,))


def _facts() -> Iterator[Case]:
    methods = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")
    for method in methods:
        for about, name, version in (
            ("a model", "double", ""),
            ("a version", "double", "1"),
            ("several versions", "versions", ""),
            ("the newest version", "versions", "3"),
            ("an unknown model", "nothing", ""),
            ("an unknown version", "double", "7"),
            ("a version that is no number", "double", "x"),
            ("an empty name", "", ""),
        ):
            yield _case(f"{method} of {about}", method, name=name, version=version)


def _index() -> Iterator[Case]:
    yield _case("index", "RepositoryIndex")
    yield _case("index of what is ready", "RepositoryIndex", ready=True)
    yield _case("index of another repository", "RepositoryIndex", repository_name="other")


def _loads() -> Iterator[Case]:
    def load(about: str, name: str = "double", /, **parameters: Mapping[str, Any]) -> Case:
        fields = {"model_name": name, "parameters": parameters}
        return _case(f"load {about}".strip(), "RepositoryModelLoad", **fields)

    yield load("")
    yield load("an unknown model", "nothing")
    yield load("an empty name", "")
    yield load("a config that is no JSON", config={"string_param": "{nonsense"})
    yield load("a config of another type", config={"int64_param": 1})
    yield load("with an unknown parameter", colour={"string_param": "red"})
    files = {"file:1/model.onnx": {"bytes_param": b"x"}}
    yield load("files without a config", **files)
    elsewhere = {"repository_name": "other", "model_name": "double"}
    yield _case("load from another repository", "RepositoryModelLoad", **elsewhere)


def _unloads() -> Iterator[Case]:
    def unload(about: str, name: str, /, **parameters: Mapping[str, Any]) -> Case:
        fields = {"model_name": name, "parameters": parameters}
        return _case(f"unload {about}".strip(), "RepositoryModelUnload", **fields)

    row = {"name": "x", "shape": (1, 4), "datatype": "FP32", "contents": {"fp32_contents": [1] * 4}}
    infer = {"model_name": "priorities", "inputs": [row]}
    yield unload("an unknown model", "nothing")
    yield unload("an empty name", "")
    wrong = {"unload_dependents": {"string_param": "yes"}}
    yield unload("with a parameter of another type", "priorities", **wrong)
    yield unload("", "priorities")
    yield _case("infer what is unloaded", "ModelInfer", **infer)
    yield _case("ready of what is unloaded", "ModelReady", name="priorities")
    yield _case("index after unloading", "RepositoryIndex")
    yield _case("load again", "RepositoryModelLoad", model_name="priorities")
    yield _case("infer what is loaded again", "ModelInfer", **infer)


def _regions() -> Iterator[Case]:
    for kind, place in (("System", {"key": "/facegen-none"}), ("Cuda", {"raw_handle": b"x"})):
        method = f"{kind}SharedMemory"
        there = {"name": "region", "byte_size": 16, **place}
        yield _case(f"{kind} regions", f"{method}Status")
        yield _case(f"{kind} region that is unknown", f"{method}Status", name="nothing")
        yield _case(f"{kind} region of memory that is not there", f"{method}Register", **there)
        yield _case(f"{kind} region unregistered, unknown", f"{method}Unregister", name="nothing")
        yield _case(f"{kind} regions all unregistered", f"{method}Unregister")


def _logs() -> Iterator[Case]:
    def setting(about: str, key: str, **value: Any) -> Case:
        return _case(f"log setting {about}", "LogSettings", settings={key: value})

    yield _case("log settings", "LogSettings")
    yield setting("set", "log_verbose_level", uint32_param=0)
    yield setting("that is unknown", "colour", string_param="red")
    yield setting("of another type", "log_info", string_param="yes")
    yield setting("of a file", "log_file", string_param="log.txt")
    yield setting("of a format", "log_format", string_param="nonsense")


def _traces() -> Iterator[Case]:
    def trace(about: str, model: str = "", **settings: str) -> Case:
        values = {key: {"value": [value]} for key, value in settings.items()}
        fields = {"model_name": model, "settings": values}
        return _case(f"trace settings {about}".strip(), "TraceSetting", **fields)

    yield trace("")
    yield trace("of a model", "double")
    yield trace("of an unknown model", "nothing")
    yield trace("set", trace_rate="500")
    yield trace("with an unknown one", colour="red")
    yield trace("with a wrong value", trace_rate="often")
    yield trace("with an unknown level", trace_level="NONSENSE")
