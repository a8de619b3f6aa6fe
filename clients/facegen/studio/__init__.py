"""The web studio: a page to play with, a client of a facegen server like any other."""

__all__: list[str] = []
