"""The resident service: one warm model, a queue that loses nothing."""
