"""Meshes of faces: families, pipelines, files and the service."""
