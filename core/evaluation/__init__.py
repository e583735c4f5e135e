"""Measure how well a model's layers follow the instruction, on held-out clips."""
