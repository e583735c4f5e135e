"""Sampling: from plate frames to the latents of the three layers."""
