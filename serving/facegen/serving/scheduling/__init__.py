"""Rows of many requests joined into batches, fairly and in time."""
