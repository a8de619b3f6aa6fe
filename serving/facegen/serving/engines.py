"""Opens the engine that a configuration names."""

from pathlib import Path

from facegen.serving.config import ServerConfig
from facegen.serving.engine import Engine
from facegen.serving.errors import ServerError

__all__ = ["open_engine"]


def open_engine(config: ServerConfig) -> Engine:
    """Open an engine, its models loaded and warm.

    Args:
        config: `engine` is `onnx:FOLDER` or `triton://HOST:PORT`.

    Raises:
        ServerError: No such kind of engine, or a remote server that does not answer.
        RepositoryError: The model repository cannot be served.
        DeviceError: The device is not there.
    """
    kind, _, where = config.engine.partition(":")
    # Imported here, so that a wrong flag is told before a library is loaded or found missing.
    if kind == "onnx" and where:
        from facegen.serving.onnx.engine import OnnxEngine

        return OnnxEngine(
            Path(where),
            device=config.device,
            threads=config.threads,
            max_batch_rows=config.max_batch_rows,
            max_queue_rows=config.max_queue_rows,
            model_control=config.model_control,
            load_models=config.load_models,
            poll_s=config.poll_s,
        ).start()
    address = where.removeprefix("//")
    if kind == "triton" and address and address != where:
        from facegen.serving.remote.engine import TritonEngine

        return TritonEngine(address, max_queue_rows=config.max_queue_rows).start()
    raise ServerError(
        f'"{config.engine}" is no engine', "use --engine onnx:FOLDER or triton://HOST:PORT"
    )
