"""The root of every error that facegen raises on purpose.

FacegenError
├── facegen.client.errors      what a server answered, or that none did
├── facegen.serving.errors     bad requests, full queues, unusable repositories
├── facegen.export.errors      graphs that fail their checks
└── facegen.training.errors    data sets, configurations and runs
"""

__all__ = ["FacegenError"]


class FacegenError(Exception):
    """An error whose message says what was wrong, with the value, and what to do about it."""
