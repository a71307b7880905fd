"""Turns ptxas's remarks (-Xptxas -v) into a table, and fails where a kernel spills registers.

    python cmake/kernel_report.py build.log

A spill moves a register to memory and back inside a kernel's loop; a stack frame is an array that
the compiler could not keep in registers. Neither belongs into a kernel of this project.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


class Kernel(NamedTuple):
    """What ptxas says of one kernel for one architecture; memory in bytes."""

    name: str
    architecture: str
    registers: int
    shared: int
    stack: int
    spills: int


def read_log(text: str) -> list[Kernel]:
    """Every kernel of a build's output, in its order."""
    kernels, name, architecture, stack, spills = [], "", "", 0, 0
    for line in text.splitlines():
        if found := ENTRY.search(line):
            name, architecture = found.groups()
        elif (found := MEMORY.search(line)) and name:
            stack, stores, loads = map(int, found.groups())
            spills = stores + loads
        elif (found := REGISTERS.search(line)) and name:
            registers, shared = int(found[1]), int(found[2] or 0)
            kernels.append(Kernel(name, architecture, registers, shared, stack, spills))
            name = ""
    return kernels


def readable(names: list[str]) -> list[str]:
    """C++ names for the linker's, without what all of them share."""
    tool = shutil.which("c++filt")
    if tool is None:
        return names
    done = subprocess.run([tool], input="\n".join(names), capture_output=True, text=True, check=True)
    plain = (
        re.sub(r"pymodel::cuda::|\(anonymous namespace\)::|^void ", "", n) for n in done.stdout.splitlines()
    )
    return [
        re.sub(r"\((?!int|bool|unsigned).*", "", n.split(">(")[0] + (">" if ">(" in n else "")) for n in plain
    ]


def print_report(kernels: list[Kernel]) -> None:
    """One row a kernel: registers on each architecture, static shared memory, stack and spills."""
    architectures = sorted({k.architecture for k in kernels})
    titles = dict(
        zip({k.name: None for k in kernels}, readable(list({k.name: None for k in kernels})), strict=True)
    )
    width = max(len(t) for t in titles.values())
    print(f"{'kernel':{width}}  {'registers on ' + ', '.join(architectures):>28}  shared  stack  spills")
    for name, title in sorted(titles.items(), key=lambda item: item[1]):
        builds = [k for k in kernels if k.name == name]
        registers = ", ".join(str(k.registers) for k in sorted(builds, key=lambda k: k.architecture))
        shared, stack, spills = (max(column) for column in list(zip(*builds, strict=True))[3:])
        print(f"{title:{width}}  {registers:>28}  {shared:6}  {stack:5}  {spills:6}")
    print(f"{len(titles)} kernels for {', '.join(architectures)}")


def main() -> int:
    """0 when there are kernels and none spills."""
    kernels = read_log(Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace"))
    if not kernels:
        print(f"{sys.argv[1]} names no kernel: was it built with -DPYMODEL_CUDA_REPORT=ON?")
        return 1
    print_report(kernels)
    bad = [k for k in kernels if k.spills or k.stack]
    for kernel in bad:
        print(
            f"FAILED: {readable([kernel.name])[0]} on {kernel.architecture} has a stack frame of "
            f"{kernel.stack} bytes and {kernel.spills} bytes of spills"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
