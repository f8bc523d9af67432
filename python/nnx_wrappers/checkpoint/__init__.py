"""Moves checkpoints between Linen and NNX; nothing of it is imported until it is used."""

from nnx_wrappers.checkpoint._convert import compare_checkpoints, convert_checkpoint
from nnx_wrappers.checkpoint._inspect import Inspection, inspect_checkpoint
from nnx_wrappers.checkpoint._load import dump_linen, load_linen
from nnx_wrappers.checkpoint._report import CheckpointError, Report, Row
from nnx_wrappers.checkpoint._rules import RuleError, Rules, read_rules

__all__ = [
    "CheckpointError",
    "Inspection",
    "Report",
    "Row",
    "RuleError",
    "Rules",
    "compare_checkpoints",
    "convert_checkpoint",
    "dump_linen",
    "inspect_checkpoint",
    "load_linen",
    "read_rules",
]
