"""Recipes of edits: the table of fields, and the parser, job file and identity that derive from the table."""

from vera.core.recipe.backends import backend_of, refuse_unsupported
from vera.core.recipe.identity import identity
from vera.core.recipe.job_file import read_json
from vera.core.recipe.parse import EXTRA_OUTPUT_NAMES, parse_cuts, parse_lora, parse_region, split_model
from vera.core.recipe.table import (
    ATTENTIONS,
    BLEND_SPACES,
    COMPRESSIONS,
    LAYER_MODES,
    LAYER_TYPES,
    MAX_SEED,
    NO_MASK,
    OFFLOADS,
    SCHEMA,
    WEIGHTS,
    EditRecipe,
)

__all__ = [
    "EXTRA_OUTPUT_NAMES",
    "ATTENTIONS",
    "BLEND_SPACES",
    "COMPRESSIONS",
    "LAYER_MODES",
    "LAYER_TYPES",
    "MAX_SEED",
    "NO_MASK",
    "OFFLOADS",
    "SCHEMA",
    "WEIGHTS",
    "EditRecipe",
    "backend_of",
    "identity",
    "parse_cuts",
    "parse_lora",
    "parse_region",
    "read_json",
    "refuse_unsupported",
    "split_model",
]
