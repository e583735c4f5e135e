"""Lifting: the edit layer between a plate and any edited version of it."""
