"""Writes a page for every proto file of its comments."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc  # type: ignore[import-untyped]  # ships no py.typed
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

_PROTOS = Path(__file__).parents[2] / "protos"
_WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
_REPEATED = FieldDescriptorProto.LABEL_REPEATED

# Numbers of fields in descriptor.proto, of which the paths to comments consist.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS = _VALUES = _METHODS = 2


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each proto."""
    protos = _described()
    pages = {
        f".{proto.package}.{name}": f"{Path(proto.name).stem}.md#{name.lower()}"
        for proto in protos
        for name in [it.name for it in proto.message_type] + [it.name for it in proto.enum_type]
    }
    for proto in protos:
        uri = f"reference/protos/{Path(proto.name).stem}.md"
        text = "\n".join(_Page(proto, pages).lines())
        files.append(File.generated(config, uri, content=text))
    return files


def _described() -> list[FileDescriptorProto]:
    """Let protoc describe the protos, comments included."""
    protos = sorted(_PROTOS.glob("facegen/**/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protos"
        flags = [f"-I{_PROTOS}", f"-I{_WELL_KNOWN}", "--include_source_info"]
        if protoc.main(["protoc", *flags, f"--descriptor_set_out={out}", *map(str, protos)]):
            raise PluginError("protoc refused a proto; it has printed why")
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


@dataclass
class _Page:
    """The page of one proto file; `pages` tells where types are explained."""

    proto: FileDescriptorProto
    pages: dict[str, str]

    def __post_init__(self) -> None:
        locations = self.proto.source_code_info.location
        self._comments = {tuple(it.path): " ".join(it.leading_comments.split()) for it in locations}

    def lines(self) -> Iterator[str]:
        """Write the page: services, messages, enums."""
        yield f"# {Path(self.proto.name).name}\n\nPackage `{self.proto.package}`.\n"
        for index, service in enumerate(self.proto.service):
            yield from self._service(service, (_SERVICES, index))
        for index, message in enumerate(self.proto.message_type):
            yield from self._message(message, (_MESSAGES, index))
        for index, enum in enumerate(self.proto.enum_type):
            yield from self._enum(enum, (_ENUMS, index))

    def _service(self, service: ServiceDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {service.name}\n\n{self._comments[path]}\n"
        yield "| method | takes → gives | |\n| --- | --- | --- |"
        for index, method in enumerate(service.method):
            comment = self._comments[*path, _METHODS, index]
            yield f"| `{method.name}` | {self._ends(method)} | {comment} |"
        yield ""

    def _ends(self, method: MethodDescriptorProto) -> str:
        gives = self._link(method.output_type)
        if method.server_streaming:
            gives = f"stream of {gives}"
        return f"{self._link(method.input_type)}<br>→ {gives}"

    def _message(self, message: DescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {message.name}\n\n{self._comments[path]}\n"
        if not message.field:
            return
        yield "| field | type | number | |\n| --- | --- | --- | --- |"
        for index, field in enumerate(message.field):
            comment = self._comments[*path, _FIELDS, index]
            kind = self._kind(message, field)
            yield f"| `{field.name}` | {kind} | {field.number} | {comment} |"
        yield ""

    def _kind(self, message: DescriptorProto, field: FieldDescriptorProto) -> str:
        """Say the type of a field as its proto does."""
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        kind = self._link(field.type_name) if field.type_name else f"`{name}`"
        for entry in message.nested_type:
            if entry.options.map_entry and field.type_name.endswith(f".{entry.name}"):
                key, value = (self._kind(entry, it) for it in entry.field)
                return f"map from {key} to {value}"
        if field.label == _REPEATED:
            return f"repeated {kind}"
        if field.proto3_optional:
            return f"optional {kind}"
        if field.HasField("oneof_index"):
            return f"{kind}, one of `{message.oneof_decl[field.oneof_index].name}`"
        return kind

    def _enum(self, enum: EnumDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
        yield f"## {enum.name}\n\n{self._comments[path]}\n"
        yield "| value | number | |\n| --- | --- | --- |"
        for index, value in enumerate(enum.value):
            yield f"| `{value.name}` | {value.number} | {self._comments[*path, _VALUES, index]} |"
        yield ""

    def _link(self, name: str) -> str:
        short = name.rpartition(".")[2]
        return f"[{short}]({self.pages[name]})" if name in self.pages else f"`{short}`"
