"""The three-branch transformer, its codec and its text encoder."""
