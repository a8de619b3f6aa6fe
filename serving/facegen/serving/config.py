"""The server's configuration: every knob, its default, its limits and its one line of help."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ServerConfig"]


class ServerConfig(BaseModel):
    """Everything that can be set about a server; `facegen serve` has a flag for each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # Models
    engine: str = "onnx:models"
    """What runs the models: onnx:FOLDER, a model repository run in this process, or
    triton://HOST:PORT, another server that speaks the KServe v2 protocol."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where they run; a device that is not there is an error, never replaced by another."""
    threads: int = Field(default=0, ge=0)
    """Threads that run models, and as many that code pictures; 0: one for each CPU available."""
    max_batch_rows: int = Field(default=0, ge=0)
    """The most rows of one execution, within each model's max_batch_size; 0: measured at load."""
    default_family: str = ""
    """The family of requests that name none; empty: the first VAE by name, of meshes the first."""
    model_control: Literal["none", "explicit", "poll"] = "none"
    """Who loads and unloads after the start: nobody, admin RPCs, or the repository's changes."""
    load_models: tuple[str, ...] = ()
    """With --model-control explicit, what to load at the start, "*" for all; may be repeated."""
    poll_s: float = Field(default=15.0, gt=0)
    """With --model-control poll, seconds between looks at the repository."""

    # Connections
    address: str = "127.0.0.1:50051"
    """Host and port to listen on; port 0 takes a free one."""
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The most bytes of one request or response."""
    max_concurrent_calls: int = Field(default=1000, ge=1)
    """The most calls answered at a time, and of health watches as many again; more get
    RESOURCE_EXHAUSTED. Probes are always answered."""
    max_connection_streams: int = Field(default=1000, ge=1)
    """The most calls under way on one connection; its client holds back more."""
    keepalive_s: float = Field(default=60.0, gt=0)
    """Seconds of silence after which a connection is pinged."""
    keepalive_timeout_s: float = Field(default=20.0, gt=0)
    """Seconds without an answer to that after which it is closed."""
    max_connection_age_s: float = Field(default=0.0, ge=0)
    """Seconds after which a client must connect anew, so that balancers rebalance; 0: never."""
    max_connection_grace_s: float = Field(default=30.0, ge=0)
    """Seconds that calls under way may then take."""

    # Limits
    max_images: int = Field(default=256, ge=1)
    """The most pictures or meshes of one request, except of streams."""
    max_picture_pixels: int = Field(default=50_000_000, ge=1)
    """The most pixels of an uploaded picture, checked before it is decoded."""
    max_request_pixels: int = Field(default=200_000_000, ge=1)
    """The most pixels of all pictures of one request, and of the photos that all calls of Transfer
    hold at a time; others wait."""
    max_queue_rows: int = Field(default=2048, ge=1)
    """The most rows that wait for one model; more get RESOURCE_EXHAUSTED."""
    max_client_calls: int = Field(default=0, ge=0)
    """The most calls of one client under way; 0: no limit of its own."""
    max_client_rate: float = Field(default=0.0, ge=0)
    """The most calls of one client a second, in the long run; 0: no limit."""

    # Security
    tls_certificate: Path | None = None
    """PEM file of the server's certificate chain; read again when it changes."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    tls_client_ca: Path | None = None
    """PEM file of the authorities whose clients alone may connect (mutual TLS)."""
    tokens: Path | None = None
    """TOML file of the bearer tokens that may call, as SHA-256; read again when it changes."""
    allow_admin: bool = False
    """Whether callers without the admin scope may load, unload and change settings."""
    shared_memory: bool = False
    """Whether clients on this machine may pass tensors through system shared memory."""

    # Telemetry
    metrics_address: str = ""
    """Host and port of the Prometheus metrics over HTTP; empty: none."""
    traces: Literal["none", "otlp"] = "none"
    """Where traces go: OTLP reads the OTEL_EXPORTER_OTLP_… variables."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe events that are logged."""
    log_format: Literal["text", "json"] = "text"
    """How log lines look."""

    # Life
    drain_delay_s: float = Field(default=0.0, ge=0)
    """Seconds after SIGTERM in which calls are still taken, so that balancers see NOT_SERVING."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds after that in which calls begun are answered."""
