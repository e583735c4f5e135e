"""Benchmarks: quality and speed, kernels on a GPU, and compiled kernels without one."""
