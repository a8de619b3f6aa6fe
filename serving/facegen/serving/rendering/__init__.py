"""Offline rendering: data sets of a family's pictures or meshes, without a server."""
