"""The commands that call a server: Typer functions that import what they need when they run."""

__all__: list[str] = []
