"""The server's configuration."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ServerConfig"]


class ServerConfig(BaseModel):
    """Everything that can be set about a server."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    engine: str = "onnx:models"
    """What runs the models: `onnx:FOLDER`, a model repository run in this process."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where they run; a device that is not there is an error, never replaced by another."""
    address: str = "127.0.0.1:50051"
    """Host and port to listen on; port 0 takes a free one."""
    threads: int = Field(default=0, ge=0)
    """Threads that run models, and as many that code pictures; 0 is one for each CPU available."""
    max_images: int = Field(default=256, ge=1)
    """The most pictures of one request, except of streams."""
    max_picture_pixels: int = Field(default=50_000_000, ge=1)
    """The most pixels of an uploaded picture, checked before it is decoded."""
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The most bytes of one request or response."""
    max_concurrent_calls: int = Field(default=1000, ge=1)
    """The most calls answered at a time, health watches included; more get RESOURCE_EXHAUSTED."""
    default_family: str = ""
    """The family of requests that name none; empty: the first VAE by name."""
    max_queue_rows: int = Field(default=2048, ge=1)
    """The most rows that wait for one model; more get RESOURCE_EXHAUSTED."""
    drain_delay_s: float = Field(default=0.0, ge=0)
    """Seconds after SIGTERM in which calls are still taken, so that balancers see NOT_SERVING."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds after that in which calls begun are answered."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe events that are logged."""
