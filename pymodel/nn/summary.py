"""A table of a module's layers: what they are, their parameters' shapes, and how many numbers that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymodel.nn.module import Module
    from pymodel.nn.parameter import Parameter

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line: a layer, or several equal ones in a row."""

    layer: str
    shapes: str
    parameters: int


def summary_text(module: Module, depth: int | None = None) -> str:
    """The table as text.

    Args:
        module: what to describe.
        depth: how many levels of parts to show; deeper ones count in the line of their parent. None
            shows all.
    """
    seen: set[int] = set()
    rows = list(_rows(module, "", 0, depth, seen))
    layer_width = max(len("layer (type)"), *(len(row.layer) for row in rows))
    shape_width = max(len("shapes"), *(len(row.shapes) for row in rows))
    count_width = max(len("parameters"), *(len(f"{row.parameters:,}") for row in rows))
    lines = [f"{'layer (type)':<{layer_width}}  {'shapes':<{shape_width}}  {'parameters':>{count_width}}"]
    lines.append("-" * len(lines[0]))
    for row in rows:
        count = f"{row.parameters:,}" if row.shapes else ""
        lines.append(
            f"{row.layer:<{layer_width}}  {row.shapes:<{shape_width}}  {count:>{count_width}}".rstrip()
        )
    lines += ["-" * len(lines[0]), *_totals(module)]
    return "\n".join(lines)


def _rows(module: Module, name: str, level: int, depth: int | None, seen: set[int]) -> Iterator[Row]:
    """The lines of a module and its parts. A parameter counts where it is met first, so that shared
    ones count once; equal neighbours are one line that counts for all."""
    label = f"{'  ' * level}{name + ' ' if name else ''}({type(module).__name__})"
    if depth is not None and level >= depth:
        count = _count_new(list(module.parameters()), seen)
        yield Row(label, "..." if count else "", count)
        return
    shapes = []
    for own_name, parameter in module._own_parameters():
        shared = " shared" if id(parameter) in seen else ""
        shapes.append(f"{own_name} {_shape(parameter.shape)}{shared}")
    own = [parameter for _, parameter in module._own_parameters()]
    yield Row(label, "; ".join(shapes), _count_new(own, seen))
    groups: list[_Group] = []
    for child_name, child in module.named_children():
        rows = list(_rows(child, "", level + 1, depth, seen))
        # Names such as query and key say more than a range from one to the other.
        if child_name.isdigit() and groups and groups[-1].takes(rows):
            groups[-1].add(child_name, rows)
        else:
            groups.append(_Group(child_name, child_name, rows))
    for group in groups:
        yield from group.named(level + 1)


@dataclasses.dataclass
class _Group:
    """Equal parts that follow each other, and the lines of one of them, which count for all."""

    first: str
    last: str
    rows: list[Row]

    def takes(self, rows: list[Row]) -> bool:
        return [(row.layer, row.shapes) for row in self.rows] == [(row.layer, row.shapes) for row in rows]

    def add(self, name: str, rows: list[Row]) -> None:
        self.last = name
        self.rows = [
            Row(one.layer, one.shapes, one.parameters + other.parameters)
            for one, other in zip(self.rows, rows, strict=True)
        ]

    def named(self, level: int) -> list[Row]:
        """The lines, the first with the parts' names."""
        names = self.first if self.first == self.last else f"{self.first}-{self.last}"
        head, indent = self.rows[0], "  " * level
        layer = f"{indent}{names} {head.layer.removeprefix(indent)}"
        return [Row(layer, head.shapes, head.parameters), *self.rows[1:]]


def _count_new(parameters: list[Parameter], seen: set[int]) -> int:
    """Numbers in those parameters that were not met before; they are from now on."""
    new = {id(parameter): parameter.numel() for parameter in parameters if id(parameter) not in seen}
    seen.update(new)
    return sum(new.values())


def _totals(module: Module) -> list[str]:
    total, trained = module.num_parameters(), module.num_parameters(only_trainable=True)
    held = sum(parameter.nbytes for parameter in module.parameters())
    return [
        f"parameters: {total:,} ({trained:,} trained, {total - trained:,} frozen)",
        f"memory of the parameters: {_size(held)}",
    ]


def _shape(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents)) if extents else "scalar"


def _size(number: float) -> str:
    """Bytes to three digits in decimal units, as memory_stats and `pymodel bench` show them."""
    exponent = 0
    while number >= 1000 and exponent < len(_UNITS) - 1:
        number, exponent = number / 1000, exponent + 1
    return f"{number:.3g} {_UNITS[exponent]}"
