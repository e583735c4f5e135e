"""Vera's library: everything but the kernels."""
