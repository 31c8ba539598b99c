"""Runs as data: read, compared, repeated."""
