"""Measurements: of kernels on a GPU, and of what the compiler made of them without one."""
