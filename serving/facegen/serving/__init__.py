"""Serves a model repository: engine, pipelines, services, server."""

__all__: list[str] = []
