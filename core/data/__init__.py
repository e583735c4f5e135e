"""Layered clips with exact alpha, made on the fly."""
