"""Frames in files, and colour on the way to the model."""
