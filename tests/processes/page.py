"""Runs the Python blocks of a page of the documentation, which connects to the other processes."""

import faulthandler
import os
import re
import sys
import types
from pathlib import Path

import jax


def main(page: str) -> None:
    faulthandler.dump_traceback_later(240, exit=True)  # also if the launcher is gone
    text = Path(page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    module = types.ModuleType("page_of_the_docs")
    sys.modules[module.__name__] = module
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))
    assert jax.process_count() == int(os.environ["PROCESSES"])
    kernel = module.state.params["up"]["kernel"].value
    assert kernel.sharding.shard_shape(kernel.shape) == (3, 4, 8)
    kernel = module.head.linen.layers_0["kernel"][...]
    assert kernel.sharding.shard_shape(kernel.shape) == (4, 8)


if __name__ == "__main__":
    main(*sys.argv[1:])
