"""Looks for inputs that break a property, guided by coverage of the Python code:

    python tests/fuzz/fuzz.py TARGET [arguments of libFuzzer, such as -max_total_time=60]

The properties are those that `make test` checks on random examples; here the bytes come from
atheris, which goes on from the inputs in tests/fuzz/corpus/TARGET and adds those that reach
new code. A failure is written to a file `crash-*`, and `fuzz.py TARGET crash-...` repeats it.
"""

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))

with atheris.instrument_imports(include=["flax.nnx.bridge", "flax.traverse_util"]):
    from flax import nnx

    from convert import test_random_graphs as graphs
    from convert import test_variables as trees

TARGETS = {
    "both_ways": trees.test_trees_convert_alike_and_back,
    "inverses": trees.test_the_two_conversions_are_inverses,
    "conflicts": trees.test_meeting_paths_are_refused_whenever_flax_would_lose_or_refuse_them,
    "graphs": graphs.test_state_goes_to_linen_and_back,
}


def main(name: str, *arguments: str) -> None:
    if name not in TARGETS:
        sys.exit(f"fuzz.py: there is no target {name!r}; choose one of {', '.join(TARGETS)}")
    corpus = HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    inputs = [] if any(Path(given).is_file() for given in arguments) else [str(corpus)]
    run = TARGETS[name].hypothesis.fuzz_one_input
    atheris.Setup([sys.argv[0], *inputs, *arguments], run, enable_python_coverage=True)
    with nnx.use_eager_sharding(False):
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
