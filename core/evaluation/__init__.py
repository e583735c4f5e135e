"""Judges of a model's layers, apart from the model: what they see, and what is counted from it."""
