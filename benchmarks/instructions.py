"""Instructions of the engine's hot loops, counted by valgrind's callgrind: the same in
every run, however busy the machine is, so that a regression shows.

`python -m benchmarks.instructions` prints them by loop and function. Only the functions
of `ENGINE` count, with all that they call.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing as tp

# None of them calls another, which would stop the counting.
ENGINE = (
    "nnx_wrappers::bridge::recipe_key*",
    "nnx_wrappers::bridge::VariableLayout::take(*",
    "nnx_wrappers::graph::Template::instantiate*",
    "nnx_wrappers::bridge::store_variables*",
    "nnx_wrappers::bridge::checked_param*",
    "nnx_wrappers::linen_vars_to_nnx_attrs*",
    "nnx_wrappers::nnx_attrs_to_linen_vars*",
)
REPEATS = 5


def loops() -> dict[str, tp.Callable[[], object]]:
    """What is counted, ready to run."""
    from flax import nnx

    import nnx_wrappers
    from benchmarks import contenders, models, scaling

    x = models.sample()
    model = nnx_wrappers.ToLinen(models.Transformer)
    variables = model.init(contenders.KEYS, x)
    linen = nnx_wrappers.ToNNX(models.LinenTransformer(), rngs=nnx.Rngs(0))
    linen = nnx_wrappers.lazy_init(linen, x)
    attributes = contenders.attributes_of(1000)
    trees = nnx_wrappers.nnx_attrs_to_linen_vars(attributes)
    nothing = scaling.nothing
    return {
        "ToLinen.apply, 12 blocks": lambda: model.apply(variables, x, nnx_method=nothing),
        "ToLinen.apply, 12 blocks, params mutable": lambda: model.apply(
            variables, x, nnx_method=nothing, mutable=["params"]
        ),
        "ToNNX call, 12 blocks": lambda: linen(x),
        "nnx_attrs_to_linen_vars, 1,000": lambda: nnx_wrappers.nnx_attrs_to_linen_vars(attributes),
        "linen_vars_to_nnx_attrs, 1,000": lambda: nnx_wrappers.linen_vars_to_nnx_attrs(trees),
    }


def control(*arguments: str) -> None:
    """Tells the callgrind that runs this process what to do."""
    subprocess.run(
        ["callgrind_control", *arguments, str(os.getpid())], check=True, capture_output=True
    )


def run_loops() -> None:
    """The part that runs under callgrind: one dump for each loop."""
    for name, loop in loops().items():
        for _ in range(3):
            loop()
        control("--instr=on")
        for _ in range(REPEATS):
            loop()
        control(f"--dump={name}")
        control("--instr=off")


def read_dump(path: pathlib.Path) -> tuple[str, int] | None:
    """The name of a dump and its instructions; None for the one at the program's end."""
    text = path.read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^desc: Trigger: dump (.+)$", text, re.MULTILINE)
    if name is None:
        return None
    # The sums at the head of a dump wrap around with --toggle-collect, so the lines are
    # added up: "position cost", but for the one after "calls=", which is what they called.
    called = re.compile(r"^calls=.*\n.*$", re.MULTILINE)
    costs = re.findall(r"^[+\-*]?\d* (\d+)$", called.sub("", text), re.MULTILINE)
    return name[1], sum(map(int, costs))


def measure() -> dict[str, int]:
    """Instructions of the engine in one run of each loop.

    Raises:
      RuntimeError: if valgrind is not installed, or says that something failed.
    """
    if shutil.which("callgrind_control") is None:
        raise RuntimeError("valgrind is missing; install it (Debian: apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no",
            f"--callgrind-out-file={folder}/dump",
            *(f"--toggle-collect={pattern}" for pattern in ENGINE),
            sys.executable, "-m", "benchmarks.instructions", "--run-loops",
        ]  # fmt: skip
        # Hashes, and with them the order of sets, must not differ between runs.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"callgrind failed:\n{done.stderr}")
        dumps = [read_dump(path) for path in sorted(pathlib.Path(folder).iterdir())]
    return {name: total // REPEATS for name, total in filter(None, dumps)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--run-loops", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().run_loops:
        run_loops()
        return
    for name, instructions in measure().items():
        print(f"{instructions:12,}  {name}")


if __name__ == "__main__":
    main()
