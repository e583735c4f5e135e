"""What a user can mend."""


class Refused(Exception):
    """One line for the user: what, where, the mend."""
