"""Training of mini: the codec, then the transformer with its text encoder."""
