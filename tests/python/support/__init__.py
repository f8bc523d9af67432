"""What several tests need: Flax's bridge to compare with, random modules, counters, shares."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
