"""The command `facegen serve`: a flag for each field of `ServerConfig`, which defines them all."""

import gc
import inspect
import os
from typing import Any

from facegen.serving.config import ServerConfig
from facegen.serving.flags import flags_of, read_flags

__all__ = ["serve"]

# The panels of --help, by the field that each begins with.
_PANELS = {
    "engine": "Models",
    "address": "Connections",
    "max_images": "Limits",
    "tls_certificate": "Security",
    "metrics_address": "Telemetry",
    "drain_delay_s": "Life",
}


def serve(**flags: Any) -> None:
    """Serve a model repository over gRPC until SIGTERM."""
    # Importing makes objects that stay: to look for garbage among them takes a tenth of a second.
    gc.disable()
    # gRPC's core tells of each caller's nonsense, in lines that are not the log's.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from facegen.serving.process import run_server
    from facegen.serving.telemetry.logs import configure_logging

    config = read_flags(ServerConfig, flags)
    configure_logging(config.log_level, config.log_format)
    run_server(config)


_flags = list(flags_of(ServerConfig, panels=_PANELS))
serve.__signature__ = inspect.Signature(_flags)  # type: ignore[attr-defined]
