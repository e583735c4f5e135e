"""Training of the lift's learned gate."""
