"""Where our server answers otherwise than Triton 2.51, and why: all of it.

`python -m tests.serving.differential.differences` writes it to docs.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.serving.differential.control_cases import control_cases
from tests.serving.differential.inference_cases import inference_cases

__all__ = ["CASES", "DIFFERENCES", "PAGE", "Difference", "page"]

CASES = (*inference_cases(), *control_cases())
"""Every call that is replayed, in order."""

PAGE = Path(__file__).parents[3] / "docs" / "triton-differences.md"


@dataclass(frozen=True, slots=True)
class Difference:
    """What both answer to one case.

    Attributes:
        case: Its name.
        triton: Triton's status.
        facegen: Ours.
        reason: Why ours is right.
    """

    case: str
    triton: str
    facegen: str
    reason: str


_OVERFLOW = (
    "The product of the dimensions overflows in Triton, so that its check passes and the backend "
    "gets a tensor of another size. The mistake is the caller's, and the message says so."
)
_ASYNCHRONOUS = (
    "Triton gives errors of its backends the model's name and a final marker, errors of its own "
    "checks neither. Ours have neither: an error ends its request."
)
_LOADS = (
    "Triton says INTERNAL of whatever is wrong with a load. The mistake is the caller's: INTERNAL "
    "stays for ours."
)
_MISSPELT = "A misspelt setting must not look as if it were set; Triton answers as if it were."

DIFFERENCES = (
    Difference("dimension of 2^62", "INTERNAL", "INVALID_ARGUMENT", _OVERFLOW),
    Difference(
        "raw contents too many",
        "OK",
        "INVALID_ARGUMENT",
        "Contents that belong to no input show that the caller has mixed something up.",
    ),
    Difference(
        "typed contents out of range",
        "OK",
        "INVALID_ARGUMENT",
        "Triton keeps the low bits: of 300 as INT8 the model would see 44.",
    ),
    Difference(
        "BYTES that are no UTF-8",
        "OK",
        "INVALID_ARGUMENT",
        "Strings of ONNX are UTF-8, and ONNX Runtime's Python interface takes no others. Here "
        "Triton's model is a script without ONNX.",
    ),
    Difference(
        "timeout that is not",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "UNAVAILABLE makes clients retry at once; time that is up has a code of its own.",
    ),
    Difference(
        "negative timeout",
        "OK",
        "INVALID_ARGUMENT",
        "No time is negative; Triton answers as if none were given.",
    ),
    Difference("stream of values that the graph fails on", "OK", "OK", _ASYNCHRONOUS),
    Difference(
        "stream with triton_grpc_error and an unknown model",
        "OK",
        "NOT_FOUND",
        "The header asks for a status in place of errors within the stream. Triton heeds it for "
        "errors of backends alone, and the rest go by unseen.",
    ),
    Difference("load an unknown model", "INTERNAL", "NOT_FOUND", _LOADS),
    Difference("load an empty name", "INTERNAL", "NOT_FOUND", _LOADS),
    Difference("load a config that is no JSON", "INTERNAL", "INVALID_ARGUMENT", _LOADS),
    Difference("load files without a config", "INTERNAL", "INVALID_ARGUMENT", _LOADS),
    Difference(
        "load a path",
        "OK",
        "NOT_FOUND",
        "Triton serves whatever lies at a path such as `../other/model`. Names must not leave the "
        "repository.",
    ),
    Difference(
        "System region of memory that is not there",
        "INTERNAL",
        "NOT_FOUND",
        "The caller named memory that does not exist.",
    ),
    Difference(
        "Cuda region of memory that is not there",
        "INVALID_ARGUMENT",
        "UNIMPLEMENTED",
        "CUDA memory is taken in no build; no other argument would help.",
    ),
    Difference("log setting that is unknown", "OK", "INVALID_ARGUMENT", _MISSPELT),
    Difference(
        "log setting of a format",
        "INVALID_ARGUMENT",
        "UNIMPLEMENTED",
        "The format is set when the server starts; no value would be taken.",
    ),
    Difference("trace settings with an unknown one", "OK", "INVALID_ARGUMENT", _MISSPELT),
    Difference("trace settings with an unknown level", "OK", "INVALID_ARGUMENT", _MISSPELT),
    Difference(
        "full queue",
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE makes clients go elsewhere or retry at once; ours says with RetryInfo when a "
        "retry may help.",
    ),
)

_HEAD = """# Differences from Triton

`tests/serving/differential` replays {count} calls, good and bad, on NVIDIA tritonserver 2.51 and on
`facegen serve`, with the same models. Codes and tensors are equal but for those below. `make test`
runs it wherever the `nvidia-pytriton` wheel can be installed; it holds this table too.

| call | Triton | facegen | why |
| --- | --- | --- | --- |
"""

_FOOT = """
Not compared: the words of errors; the order of outputs, which go by name; times and counts in
statistics, which other tests hold; the values of log and trace settings; and what a model's
configuration says of its backend, because this Triton runs the graphs in its Python backend.
"""


def page() -> str:
    """Write the page of docs."""
    rows = (f"| {d.case} | {d.triton} | {d.facegen} | {d.reason} |\n" for d in DIFFERENCES)
    return _HEAD.format(count=len(CASES)) + "".join(rows) + _FOOT


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
