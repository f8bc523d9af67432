"""Moves checkpoints between Linen and NNX; nothing of it is imported until it is used."""

from nnx_wrappers.checkpoint._load import dump_linen, load_linen
from nnx_wrappers.checkpoint._report import CheckpointError, Report, Row
from nnx_wrappers.checkpoint._rules import RuleError, Rules, read_rules

__all__ = [
    "CheckpointError",
    "Report",
    "Row",
    "RuleError",
    "Rules",
    "dump_linen",
    "load_linen",
    "read_rules",
]
