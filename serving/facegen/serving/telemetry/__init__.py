"""What the server tells of itself: metrics, traces and the log."""

from facegen.serving.telemetry.logs import (
    LogSettings,
    configure_logging,
    log_settings,
    set_level,
)
from facegen.serving.telemetry.observer import Observation, Observer
from facegen.serving.telemetry.telemetry import Telemetry

__all__ = [
    "LogSettings",
    "Observation",
    "Observer",
    "Telemetry",
    "configure_logging",
    "log_settings",
    "set_level",
]
