"""Opens the engine that a configuration names."""

from pathlib import Path

from facegen.serving.config import ServerConfig
from facegen.serving.engine import Engine
from facegen.serving.errors import ServerError

__all__ = ["open_engine"]


async def open_engine(config: ServerConfig) -> Engine:
    """Open an engine, its models loaded and warm.

    Args:
        config: `engine` is `onnx:FOLDER`.

    Raises:
        ServerError: No such kind of engine.
        RepositoryError: The model repository cannot be served.
        DeviceError: The device is not there.
    """
    kind, _, where = config.engine.partition(":")
    if kind != "onnx" or not where:
        raise ServerError(f'"{config.engine}" is no engine', "use --engine onnx:FOLDER")
    # Imported here, so that a wrong flag is told before a library is loaded or found missing.
    from facegen.serving.onnx.engine import OnnxEngine

    engine = OnnxEngine(
        Path(where),
        device=config.device,
        threads=config.threads or None,
        max_queue_rows=config.max_queue_rows,
    )
    return await engine.start()
