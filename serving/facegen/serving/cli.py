"""The command `facegen serve`."""

import logging
import sys
from typing import Annotated, Literal

import typer

__all__ = ["serve"]


def serve(
    engine: Annotated[
        str, typer.Option(help="What runs the models: onnx:FOLDER, a model repository.")
    ] = "onnx:models",
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="Where they run; never replaced by another.")
    ] = "cpu",
    address: Annotated[
        str, typer.Option(help="Host and port to listen on; port 0 takes a free one.")
    ] = "127.0.0.1:50051",
    threads: Annotated[
        int, typer.Option(min=0, help="Threads that run models; 0 is one for each CPU available.")
    ] = 0,
    default_family: Annotated[
        str,
        typer.Option(help="The family of requests that name none. [default: first VAE by name]"),
    ] = "",
    max_images: Annotated[
        int, typer.Option(min=1, help="The most pictures of a request, except of streams.")
    ] = 256,
    max_picture_pixels: Annotated[
        int, typer.Option(min=1, help="The most pixels of an uploaded picture.")
    ] = 50_000_000,
    max_message_bytes: Annotated[
        int, typer.Option(min=1024, help="The most bytes of a request or response.")
    ] = 64 * 1024 * 1024,
    max_concurrent_calls: Annotated[
        int, typer.Option(min=1, help="The most calls answered at a time; more are refused.")
    ] = 1000,
    max_queue_rows: Annotated[
        int, typer.Option(min=1, help="The most rows that wait for a model; more are refused.")
    ] = 2048,
    drain_delay_s: Annotated[
        float, typer.Option(min=0, help="Seconds after SIGTERM in which calls are still taken.")
    ] = 0.0,
    drain_timeout_s: Annotated[
        float, typer.Option(min=0, help="Seconds after that in which calls begun are answered.")
    ] = 30.0,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(help="The least severe events logged."),
    ] = "info",
) -> None:
    """Serve a model repository over gRPC until SIGTERM."""
    import asyncio

    from facegen.serving.config import ServerConfig
    from facegen.serving.server import run_server

    config = ServerConfig(
        engine=engine,
        device=device,
        address=address,
        threads=threads,
        default_family=default_family,
        max_images=max_images,
        max_picture_pixels=max_picture_pixels,
        max_message_bytes=max_message_bytes,
        max_concurrent_calls=max_concurrent_calls,
        max_queue_rows=max_queue_rows,
        drain_delay_s=drain_delay_s,
        drain_timeout_s=drain_timeout_s,
        log_level=log_level,
    )
    logging.basicConfig(
        stream=sys.stderr,
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    status = asyncio.run(run_server(config))
    if status:
        raise typer.Exit(status)
