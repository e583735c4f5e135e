"""Command lines of the doors."""

import argparse

from vera.core.errors import InputError


class Parser(argparse.ArgumentParser):
    """Wrong arguments are wrong input: one line. Options are not abbreviated, the epilog keeps its lines."""

    def __init__(self, **named):
        ours = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**ours | named)

    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")
