"""The metrics and traces of one server, from its start to its end."""

import logging
from typing import TYPE_CHECKING

from facegen.serving.config import ServerConfig
from facegen.serving.engine import Engine
from facegen.serving.telemetry.call_counts import CallCounts
from facegen.serving.telemetry.observer import Observer
from facegen.serving.telemetry.trace_settings import TraceSettings

if TYPE_CHECKING:
    from facegen.serving.telemetry.metrics import Metrics
    from facegen.serving.telemetry.metrics_server import MetricsServer
    from facegen.serving.telemetry.tracing import Tracing

__all__ = ["Telemetry"]

_LOGGER = logging.getLogger(__name__)


class Telemetry:
    """Counts and traces a server's calls, and serves its metrics.

    Libraries are imported for what the configuration wants, and not for what it does not.

    Attributes:
        observer: What calls are reported to.
        traces: Which of them are traced.
        metrics_address: Where the metrics are, once `start` has been called; empty: nowhere.

    Args:
        config: `metrics_address` and `traces`.
    """

    def __init__(self, config: ServerConfig) -> None:
        counts = CallCounts()
        self.traces = TraceSettings(available=config.traces == "otlp")
        self._tracing = _open_tracing(self.traces) if self.traces.available else None
        self._metrics = _open_metrics(counts) if config.metrics_address else None
        self._metrics_server: MetricsServer | None = None
        self._wanted_address = config.metrics_address
        self.observer = Observer(counts, self._tracing)
        self.metrics_address = ""

    def start(self) -> None:
        """Serve the metrics, where they are wanted.

        Raises:
            ServerError: Their address is taken or wrong.
        """
        if self._metrics is not None:
            from facegen.serving.telemetry.metrics_server import MetricsServer

            self._metrics_server = MetricsServer(self._wanted_address, self._metrics)
            self.metrics_address = self._metrics_server.address
            _LOGGER.info("metrics ready address=%s", self.metrics_address)

    def watch(self, engine: Engine) -> None:
        """Tell of this engine's models from now on."""
        if self._metrics is not None:
            self._metrics.watch(engine)

    def close(self) -> None:
        """Send what traces are left and free the metrics' port; again is no harm. Blocks."""
        if self._metrics_server is not None:
            self._metrics_server.close()
            self._metrics_server = None
        if self._tracing is not None:
            self._tracing.close()
            self._tracing = None


def _open_metrics(counts: CallCounts) -> "Metrics":
    from facegen.serving.telemetry.metrics import Metrics

    return Metrics(counts)


def _open_tracing(settings: TraceSettings) -> "Tracing":
    from facegen.serving.telemetry.tracing import Tracing, otlp_provider

    return Tracing(otlp_provider(), settings)
