"""How fast are the graphs of meshes, form by form, beside PyTorch?

    python -m benchmarks.mesh_graphs [--run RUN | --data data] [--threads 1]

Each form of the encoder's and the decoder's graph with ONNX Runtime, beside the PyTorch modules
that they came from, in turns; the fastest counts. On one thread it is the process's own time, so
that what else the machine does hits it less. Without a run the weights are untrained: speed does
not depend on them.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

from facegen.export.mesh_plans import MeshReference, plan_mesh_decoder, plan_mesh_encoder
from facegen.export.plans import GraphPlan
from facegen.training.mesh.hierarchy import build_hierarchy
from facegen.training.mesh.ict import load_face_model, simplified
from facegen.training.mesh.model import MeshAutoencoder, MeshConfig, VertexScale
from facegen.training.run import load_mesh_run

BATCH_SIZES = (1, 4, 16, 64)
ROUNDS = 25
_DEVIATION_MM = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, help="a finished run of meshes")
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds ict_facekit.npz")
    parser.add_argument("--vertices", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.run:
        models = {arguments.run.name: load_mesh_run(arguments.run).model}
    else:
        models = _untrained(arguments.data, arguments.vertices)
    for name, model in models.items():
        _race(name, model, threads=arguments.threads, rounds=arguments.rounds)


def _untrained(data: Path, vertex_count: int) -> dict[str, MeshAutoencoder]:
    """An untrained model of each convolution."""
    face = simplified(load_face_model(data), vertex_count)
    models = {}
    for convolution in ("chebyshev", "sage"):
        config = MeshConfig(convolution=convolution)
        hierarchy = build_hierarchy(face.neutral, face.faces, config.factors)
        scale = VertexScale(face.neutral, _DEVIATION_MM)
        model = MeshAutoencoder(config, hierarchy, scale).eval()
        models[convolution] = model.requires_grad_(requires_grad=False)
    return models


def _race(name: str, model: MeshAutoencoder, *, threads: int, rounds: int) -> None:
    random = np.random.default_rng(0)
    moves = _DEVIATION_MM * random.standard_normal((max(BATCH_SIZES), *model.template.shape))
    reference = MeshReference.of(model, (model.template + moves).astype(np.float32))
    for plan, module in (
        (plan_mesh_encoder(reference, storage="float32"), model.encoder),
        (plan_mesh_decoder(reference, storage="float32"), model.decoder),
    ):
        graphs = {form: build(f"{name}-{form}") for form, build in plan.forms.items()}
        runs = {form: _session_run(graph, plan, threads) for form, graph in graphs.items()}
        clock = time.process_time if threads == 1 else time.perf_counter
        contestants = {"PyTorch": _module_run(module, plan, threads), **runs}
        times = _turns(contestants, rounds=rounds, clock=clock)
        _show(f"{name}, {plan.role.role}, {threads} thread(s): ms a mesh", times)


def _session_run(graph: onnx.ModelProto, plan: GraphPlan, threads: int) -> Callable[[int], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda size: session.run(None, {key: rows[:size] for key, rows in plan.rows.items()})


def _module_run(module: torch.nn.Module, plan: GraphPlan, threads: int) -> Callable[[int], object]:
    (rows,) = plan.rows.values()
    tensor = torch.from_numpy(rows)

    def run(size: int) -> object:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return module(tensor[:size])

    return run


def _turns(
    contestants: Mapping[str, Callable[[int], object]], *, rounds: int, clock: Callable[[], float]
) -> dict[str, dict[int, float]]:
    """Milliseconds a mesh: the fastest of turns that contestants take one after the other."""
    best: dict[str, dict[int, float]] = {name: {} for name in contestants}
    for turn in range(rounds + 1):
        for size in BATCH_SIZES:
            for name, call in contestants.items():
                begin = clock()
                call(size)
                spent_ms = (clock() - begin) * 1e3 / size
                if turn:  # the first warms up
                    best[name][size] = min(best[name].get(size, spent_ms), spent_ms)
    return best


def _show(title: str, times: Mapping[str, Mapping[int, float]]) -> None:
    table = Table("", *(f"batch {size}" for size in BATCH_SIZES), title=title)
    for name, of_sizes in times.items():
        table.add_row(name, *(f"{of_sizes[size]:.3f}" for size in BATCH_SIZES))
    Console().print(table)


if __name__ == "__main__":
    main()
