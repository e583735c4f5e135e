"""Vera: edit layers for untouched plates."""

__version__ = "0.1.0"
