"""Runs each file in a process of its own, since netket sets flags of JAX, and prints one table.

Arguments go to pytest, such as `-m short`. A file of which they leave nothing is passed over; that
nothing runs at all is a failure.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch, "table")
        command = [sys.executable, "-m", "pytest", "-c", FOLDER / "pytest.ini", "--table", table]
        ended = {
            file.name: subprocess.run([*command, file, *arguments], check=False).returncode
            for file in sorted(FOLDER.glob("test_*.py"))
        }
        lines = table.read_text(encoding="utf-8") if table.exists() else ""
    print(f"\nprograms on both bridges, and arrays compared\n{lines}", flush=True)
    ran = {name: code for name, code in ended.items() if code != pytest.ExitCode.NO_TESTS_COLLECTED}
    failed = [name for name, code in ran.items() if code != pytest.ExitCode.OK]
    if failed:
        print(f"run.py: failed: {', '.join(failed)}", file=sys.stderr)
    elif not ran:
        print(f"run.py: no test ran, with the arguments {arguments}", file=sys.stderr)
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
