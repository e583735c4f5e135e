"""Kinds of paths in the values of a recipe."""

from enum import Enum


class PathKind(Enum):
    """The kind of thing that a path names."""

    PATTERN = "pattern"  # a numbered sequence, a still or a movie
    FOLDER = "folder"
    MODEL = "model"  # a name, a folder, or PREFIX:PATH of the table of backends
    FILES = "files"  # a list of files
    LORAS = "loras"  # a list of FILE or FILE:STRENGTH
