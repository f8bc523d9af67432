"""Writes the part of docs/reference/cpp.md that the installed public headers give.

make_cpp_reference.py [FILE]: FILE has the head of the page; what follows the marker is written
anew. A header is shown as it is, without include lines, private members and bodies.
"""

import re
import sys
from pathlib import Path

import nnx_wrappers

PAGE = Path("docs/reference/cpp.md")
MARKER = "<!-- What follows is made from the headers: `make stubs`. -->\n"
ORDER = [
    "nnx_wrappers.h",
    "interpreter.h",
    "to_nnx.h",
    "to_linen.h",
    "lazy_init.h",
    "variables.h",
    "collections.h",
    "rngs.h",
    "context.h",
    "install.h",
    "features.h",
    "caches.h",
    "usage.h",
    "errors.h",
    "version.h",
]
NOT_SHOWN = re.compile(
    r"^(#pragma once|// NOLINT.*|#include <.*>|}?  ?// namespace .*|namespace .*)\n", re.M
)
PRIVATE = re.compile(r"\n private:\n.*?(?=^};)", re.M | re.S)
BODY = re.compile(r"(\)(?: const)?) \{\s*return [^;]*;\s*\}")


def shown(header: Path) -> str:
    text = NOT_SHOWN.sub("", header.read_text(encoding="utf-8"))
    text = BODY.sub(r"\1;", PRIVATE.sub("", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def reference() -> str:
    folder = Path(nnx_wrappers.get_include(), "nnx_wrappers")
    found = sorted(header.name for header in folder.glob("*.h"))
    if found != sorted(ORDER):
        raise SystemExit(f"ORDER in {__file__} does not name the headers {found}")
    blocks = [f"### `{name}`\n\n```cpp\n{shown(folder / name)}\n```\n" for name in ORDER]
    return MARKER + "\n" + "\n".join(blocks)


def main() -> None:
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    head, marker, _ = page.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise SystemExit(f"{page} has no line {MARKER!r}")
    page.write_text(head + reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
