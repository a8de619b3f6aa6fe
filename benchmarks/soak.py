"""A soak: requests of every shape and size, right and wrong, cancelled and cut off, and reloads.

Resident memory, threads and descriptors of the server must stay as they were once it has met all of
them. Callers are many threads that choose at random what to do next; another reloads the models.

    python -m benchmarks.soak --minutes 5
"""

import argparse
import io
import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from PIL import Image
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2 as kserve
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from facegen.v1 import face_service_pb2 as pb
from facegen.v1 import image_pb2, latent_pb2
from facegen.v1.face_service_pb2_grpc import FaceServiceStub

FAMILY, LATENT_SIZE = "celeba-vae", 128
MODELS = ("decoder", "encoder", "prior-normal", "prior-mixture")
FORMATS = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
CALLERS = 8
RELOAD_S = 2.0
LOOKS = 5  # for each that is shown: what is under way goes up and down
TIMEOUT_S = 60.0
# What may come of requests that are right, wrong, cancelled or late.
PROPER = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED",
}  # fmt: skip
# Of bytes that are no message; gRPC's own word for them.
NO_MESSAGE = "Exception deserializing request!"
# Between the second quarter of the time and the last.
MOST_GROWTH, MOST_GROWTH_MIB = 0.03, 8.0
MOST_MORE = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server's process held at a time."""

    seconds: float
    calls: int
    reloads: int
    memory_mib: float
    threads: int
    descriptors: int


class Caller:
    """Chooses at random what to call, again and again.

    Args:
        address: The server.
        seed: Of its choices.
        outcomes: Counts the codes; shared.
    """

    def __init__(self, address: str, seed: int, outcomes: Counter[str]) -> None:
        self._address = address
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._outcomes = outcomes
        self._kinds: tuple[Callable[[], object], ...] = (
            self._infer, self._infer_typed, self._infer_stream, self._generate, self._stream,
            self._reconstruct, self._encode, self._interpolate, self._decode, self._cancel,
            self._late, self._wrong, self._broken,
        )  # fmt: skip

    def run(self, until: float) -> None:
        """Call until the time has come, on a new connection every now and then."""
        while time.monotonic() < until:
            options = [("grpc.use_local_subchannel_pool", 1)]
            options += [("grpc.max_receive_message_length", -1)]
            with grpc.insecure_channel(self._address, options=options) as channel:
                self._channel = channel
                self._faces = FaceServiceStub(channel)
                self._kserve = GRPCInferenceServiceStub(channel)
                for _ in range(self._random.randint(1, 100)):
                    if time.monotonic() < until:
                        self._outcomes[self._call(self._random.choice(self._kinds))] += 1

    def _call(self, kind: Callable[[], object]) -> str:
        try:
            kind()
        except grpc.RpcError as error:
            call: Any = error
            if call.details() == NO_MESSAGE:
                return "INVALID_ARGUMENT"
            code: str = call.code().name
            return code if code in PROPER else f"{code}: {call.details()}"
        return "OK"

    def _latents(self, count: int) -> Any:
        return self._numbers.standard_normal((count, LATENT_SIZE), np.float32)

    def _request(self) -> Any:
        latents = self._latents(self._random.choice((1, 1, 2, 3, 7, 16, 32)))
        request = kserve.ModelInferRequest(model_name=f"{FAMILY}-decoder")
        request.inputs.add(name="latent", datatype="FP32", shape=latents.shape)
        request.raw_input_contents.append(latents.tobytes())
        return request

    def _infer(self) -> None:
        self._kserve.ModelInfer(self._request(), timeout=TIMEOUT_S)

    def _infer_typed(self) -> None:
        request = self._request()
        values = np.frombuffer(request.raw_input_contents.pop(), np.float32)
        request.inputs[0].contents.fp32_contents.extend(values.tolist())
        self._kserve.ModelInfer(request, timeout=TIMEOUT_S)

    def _infer_stream(self) -> None:
        requests = [self._request() for _ in range(self._random.randint(0, 20))]
        answers = self._kserve.ModelStreamInfer(iter(requests), timeout=TIMEOUT_S)
        for _ in itertools.islice(answers, self._random.randint(0, 30)):
            pass
        answers.cancel()

    def _format(self) -> image_pb2.ImageFormat:
        return image_pb2.ImageFormat(mime_type=self._random.choice(FORMATS))

    def _generate(self) -> None:
        count = self._random.choice((1, 1, 1, 2, 5, 16, 64))
        request = pb.GenerateRequest(count=count, format=self._format(), include_latents=True)
        self._faces.Generate(request, timeout=TIMEOUT_S)

    def _stream(self) -> None:
        request = pb.GenerateStreamRequest(count=2**40, format=self._format())
        answers = self._faces.GenerateStream(request, timeout=TIMEOUT_S)
        for _ in itertools.islice(answers, self._random.randint(0, 4)):
            pass
        answers.cancel()

    def _image(self) -> image_pb2.Image:
        width, height = self._random.randint(1, 900), self._random.randint(1, 900)
        pixels = self._numbers.integers(0, 256, (height, width, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, self._random.choice(("PNG", "JPEG", "WEBP", "BMP")))
        data = file.getvalue()
        if self._random.random() < 0.1:
            data = data[: self._random.randint(0, len(data))]
        return image_pb2.Image(data=data)

    def _images(self) -> list[image_pb2.Image]:
        return [self._image() for _ in range(self._random.choice((1, 1, 2, 6)))]

    def _reconstruct(self) -> None:
        request = pb.ReconstructRequest(
            images=self._images(), format=self._format(), include_inputs=True
        )
        self._faces.Reconstruct(request, timeout=TIMEOUT_S)

    def _encode(self) -> None:
        self._faces.Encode(pb.EncodeRequest(images=self._images()), timeout=TIMEOUT_S)

    def _latent(self) -> latent_pb2.Latent:
        return latent_pb2.Latent(family=FAMILY, values=self._latents(1)[0].tolist())

    def _decode(self) -> None:
        latents = [self._latent() for _ in range(self._random.randint(1, 40))]
        request = pb.DecodeRequest(latents=latents, format=self._format())
        self._faces.Decode(request, timeout=TIMEOUT_S)

    def _interpolate(self) -> None:
        request = pb.InterpolateRequest(
            family=FAMILY,
            start=pb.Endpoint(latent=self._latent()),
            end=pb.Endpoint(image=self._image()),
            count=self._random.randint(2, 20),
        )
        self._faces.Interpolate(request, timeout=TIMEOUT_S)

    def _cancel(self) -> None:
        calls = [self._faces.Generate.future(pb.GenerateRequest(count=64)) for _ in range(4)]
        calls.append(self._kserve.ModelInfer.future(self._request()))
        calls[self._random.randrange(len(calls))].exception()
        for call in calls:
            call.cancel()

    def _late(self) -> None:
        self._faces.Generate(pb.GenerateRequest(count=64), timeout=self._random.random() / 20)

    def _wrong(self) -> None:
        request = self._request()
        request.inputs[0].shape[self._random.randrange(2)] += self._random.choice((-1, 1, 2**60))
        self._kserve.ModelInfer(request, timeout=TIMEOUT_S)

    def _broken(self) -> None:
        body = bytearray(self._request().SerializeToString()[:300])
        for _ in range(5):
            body[self._random.randrange(len(body))] = self._random.randrange(256)
        method: Any = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        method(bytes(body), timeout=TIMEOUT_S)


class Reloader:
    """Reloads one model after the other, each time as another one."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.count = 0

    def run(self, done: threading.Event) -> None:
        """Reload until it is done."""
        with grpc.insecure_channel(self._address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            for role in itertools.cycle(MODELS):
                if done.wait(RELOAD_S):
                    return
                name = f"{FAMILY}-{role}"
                config = stub.ModelConfig(kserve.ModelConfigRequest(name=name)).config
                config.parameters["soak"].string_value = str(self.count)
                request = kserve.RepositoryModelLoadRequest(model_name=name)
                request.parameters["config"].string_param = json_format.MessageToJson(config)
                stub.RepositoryModelLoad(request)
                self.count += 1


@contextmanager
def running(models: Path, threads: int) -> Iterator[tuple[str, int]]:
    """Run a server; gives its address and process."""
    facegen = str(Path(sys.executable).with_name("facegen"))
    command = [facegen, "serve", "--engine", f"onnx:{models}", "--address", "127.0.0.1:0"]
    command += ["--model-control", "explicit", "--load-models", "*", "--allow-admin"]
    command += ["--threads", str(threads)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    errors: list[str] = []
    address = ""
    for line in process.stderr:
        if found := re.search(r"\bserving \d.* on (\S+)$", line):
            address = found[1]
            break
    reader = threading.Thread(target=lambda: errors.extend(_errors(process.stderr or ())))
    reader.start()
    try:
        yield address, process.pid
    finally:
        process.terminate()
        status = process.wait(60)
        reader.join()
        print(f"exit {status}", *errors[:20], file=sys.stderr)


def _errors(lines: Any) -> Iterator[str]:
    return (line.rstrip() for line in lines if " ERROR " in line)


def sample(pid: int, began: float, calls: int, reloads: int) -> Sample:
    """Look at a process."""
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    return Sample(
        seconds=time.monotonic() - began,
        calls=calls,
        reloads=reloads,
        memory_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        threads=len(list((process / "task").iterdir())),
        descriptors=len(list((process / "fd").iterdir())),
    )


def soak(address: str, pid: int, seconds: float, outcomes: Counter[str]) -> list[Sample]:
    """Call and look, until the time is over and all is quiet again."""
    began = time.monotonic()
    callers = [Caller(address, seed, outcomes) for seed in range(CALLERS)]
    reloader, done = Reloader(address), threading.Event()
    threads = [threading.Thread(target=caller.run, args=(began + seconds,)) for caller in callers]
    threads.append(threading.Thread(target=reloader.run, args=(done,)))
    for thread in threads:
        thread.start()
    samples = []
    while not done.wait(seconds / 24 / LOOKS):
        samples.append(sample(pid, began, outcomes.total(), reloader.count))
        if time.monotonic() > began + seconds:
            done.set()
    for thread in threads:
        thread.join()
    return samples


def verdict(samples: Sequence[Sample], outcomes: Counter[str]) -> list[str]:
    """Tell what is not as it should be."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    wrong = [f"{count} x {code}" for code, count in outcomes.items() if code not in PROPER]
    before = statistics.median(s.memory_mib for s in early)
    after = statistics.median(s.memory_mib for s in late)
    if after > before * (1 + MOST_GROWTH) + MOST_GROWTH_MIB:
        wrong.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
    for name in ("threads", "descriptors"):
        first = max(getattr(s, name) for s in early)
        last = max(getattr(s, name) for s in late)
        if last > first + MOST_MORE:
            wrong.append(f"{name} grew from {first} to {last}")
    return wrong


def table_of(samples: Sequence[Sample]) -> Table:
    """Show some of the samples."""
    table = Table("seconds", "calls", "reloads", "memory, MiB", "threads", "descriptors")
    for each in samples[LOOKS - 1 :: LOOKS]:
        table.add_row(
            f"{each.seconds:.0f}", f"{each.calls}", f"{each.reloads}", f"{each.memory_mib:.0f}",
            f"{each.threads}", f"{each.descriptors}",
        )  # fmt: skip
    return table


def main() -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    with running(arguments.models, arguments.threads) as (address, pid):
        samples = soak(address, pid, arguments.minutes * 60, outcomes)
    console = Console()
    console.print(table_of(samples))
    console.print("  ".join(f"{code} {count}" for code, count in outcomes.most_common()))
    wrong = verdict(samples, outcomes)
    console.print("; ".join(wrong) if wrong else "flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
