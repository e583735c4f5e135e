"""Render many shots on many machines: with Ray, or with OpenJD templates on any farm. See docs/farm.md."""
