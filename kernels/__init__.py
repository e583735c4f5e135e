"""Compute kernels, each beside its plain reference."""
