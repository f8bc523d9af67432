"""Checks the wheels and the sdist in a folder: check.py FOLDER

Each of them: less than 2 MB, and what twine looks for. Each wheel: the files of the package and no
others (check-wheel-contents too); an extension for the machine that the name says, which shows
other libraries nothing but `PyInit__core` and needs none but those of the C library; the symbols of
the platform's C library (auditwheel).
"""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

MAX_BYTES = 2_000_000
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
LIBRARIES = ("libc.so.", "libm.so.", "libdl.so.", "libpthread.so.", "ld-linux-")
FOLDERS = {"cmake", "include", "nanobind", "src"}
FILES = {"py.typed", "_core.pyi"}
PACKAGES = {"", "checkpoint"}  # the folders of Python files, from the package's own


def run(*command: str | Path) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]}:\n{done.stdout}{done.stderr}")
    return done.stdout


def problems_of_names(names: list[str], extension: str) -> list[str]:
    found = []
    for name in names:
        top, _, rest = name.partition("/")
        if top.endswith(".dist-info"):
            continue
        known = rest in FILES or rest == extension or rest.split("/")[0] in FOLDERS
        is_python = rest.endswith(".py") and rest.rpartition("/")[0] in PACKAGES
        if top != "nnx_wrappers" or not (known or is_python):
            found.append(f"unexpected file {name}")
    return found


def problems_of_extension(content: bytes, machine: str) -> list[str]:
    elf = ELFFile(io.BytesIO(content))
    found = []
    if elf["e_machine"] != machine:
        found.append(f"an extension for {elf['e_machine']}, not {machine}")
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    shown = sorted(s.name for s in symbols if s.name and s["st_shndx"] != "SHN_UNDEF")
    if shown != ["PyInit__core"]:
        found.append(f"symbols that other libraries see: {shown}")
    needed = [tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    found += [f"needs {name}" for name in needed if not name.startswith(LIBRARIES)]
    return found


def problems_of(wheel: Path) -> list[str]:
    _, _, line, _, platform = wheel.stem.split("-")
    suffix = "darwin" if platform.startswith("macosx") else f"{machine_of(platform)}-linux-gnu"
    extension = f"_core.cpython-{line[2:]}-{suffix}.so"
    size = wheel.stat().st_size
    found = [f"{size:,} bytes"] if size > MAX_BYTES else []
    with zipfile.ZipFile(wheel) as archive:
        found += problems_of_names(archive.namelist(), extension)
        content = archive.read(f"nnx_wrappers/{extension}")
    if suffix != "darwin":
        found += problems_of_extension(content, MACHINES[machine_of(platform)])
        shown = " ".join(run("auditwheel", "show", wheel).split())
        if f'consistent with the following platform tag: "{platform}"' not in shown:
            found.append(f"auditwheel: {shown}")
    return found


def machine_of(platform: str) -> str:
    return "aarch64" if platform.endswith("aarch64") else "x86_64"


def main() -> None:
    folder = Path(sys.argv[1])
    wheels = sorted(folder.glob("*.whl"))
    sdists = sorted(folder.glob("*.tar.gz"))
    if not wheels or len(sdists) != 1:
        raise SystemExit(f"{folder} has {len(wheels)} wheels and {len(sdists)} sdists")
    problems = {wheel.name: found for wheel in wheels if (found := problems_of(wheel))}
    if (size := sdists[0].stat().st_size) > MAX_BYTES:
        problems[sdists[0].name] = [f"{size:,} bytes"]
    for name, found in problems.items():
        print(f"{name}: {'; '.join(found)}", file=sys.stderr)
    if problems:
        raise SystemExit(1)
    run("twine", "check", "--strict", *wheels, *sdists)
    run("check_wheel_contents", *wheels)
    for path in [*wheels, *sdists]:
        print(f"{path.stat().st_size:>9,} {path.name}")


if __name__ == "__main__":
    main()
