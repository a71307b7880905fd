"""Reads the imports of pymodel and the includes of csrc, and says where they break the layers.

`python_violations` and `cpp_violations` take the root of a checkout and return one line per
finding, `file:line: what was found (the rule)`. A new module or folder is given its place in
`LAYERS` or `CPP_MAY_INCLUDE`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = "pymodel"  # the package's own __init__.py

# Bottom to top. A module imports from the rows below its own; names joined by "+" know each other.
LAYERS = [
    ["errors+files+hub"],
    ["_core"],
    ["device+random+dtypes"],
    ["array"],
    ["cuda"],
    ["tensor+tensor_methods+autograd"],
    ["ops"],
    ["nn", "optim"],
    ["models"],
    ["generate", "train", "embeddings", "inference"],
    [ROOT],
    ["cli+__main__"],
]
# Text and numbers on the host: no kernels, no layers but errors, files and hub; used from train upwards.
SIDE_PACKAGES = {"data", "text", "metrics"}
SIDE_MAY_IMPORT = SIDE_PACKAGES | {"errors", "files", "hub"}
SIDE_USERS = {"generate", "train", "embeddings", "inference", "cli", "__main__", ROOT}
# Imports that stand, inside a function only: `model.generate()` is the name users know, and a
# tokenizer gives tensors to whoever asks for them.
DEFERRED_UPWARD = {("models", "generate"), ("text", "tensor")}
IMPORT_CALLS = {"import_module", "importlib.import_module", "__import__"}
NEVER_IMPORTED = {"torch", "transformers"}  # the reference in tests, the opponent in benchmarks

# csrc, bottom to top. The emulator stands where the CUDA toolkit would, below cuda.
CPP_MAY_INCLUDE = {
    "core": set(),
    "simt": {"core"},
    "cpu": {"core"},
    "cuda": {"core", "simt"},
    "ops": {"core", "cpu", "cuda", "simt"},
    "bindings": {"core", "cpu", "cuda", "ops", "simt"},
}
CPP_SUFFIXES = {".h", ".hpp", ".cpp", ".cu", ".cuh"}
PTX_FILE = Path("csrc/cuda/ptx.cuh")
TILE_UNIT_FILE = Path("csrc/cpu/tile_unit.h")  # whose intrinsics cannot be used from templates
STACK_SWITCH_FILE = Path("csrc/simt/fibre.cpp")  # the emulator's only assembly

RANK = {name: rank for rank, row in enumerate(LAYERS) for group in row for name in group.split("+")}
GROUP = {name: group for row in LAYERS for group in row for name in group.split("+")}


def python_violations(root: Path) -> list[str]:
    """Every import in `root/pymodel` that points upwards or to torch, and code in `__init__.py`."""
    package = root / ROOT
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), name)
        source = _layer_of(path.relative_to(package))
        for line, module, deferred in _imports(tree, path, root):
            rule = _broken_rule(source, module, deferred)
            if rule:
                found.append(f"{name}:{line}: imports {module} ({rule})")
        if path.name == "__init__.py":
            found += [f"{name}:{line}: {what} (__init__.py only re-exports)" for line, what in _code_in(tree)]
    return found


def _layer_of(relative: Path) -> str:
    first = relative.parts[0]
    return ROOT if first == "__init__.py" else first.removesuffix(".py")


def _broken_rule(source: str, module: str, deferred: bool) -> str | None:
    """The rule that layer `source` breaks by importing `module`, or None."""
    parts = module.split(".")
    if parts[0] in NEVER_IMPORTED:
        return f"{parts[0]} is no run-time dependency: tests and benchmarks only"
    if parts[0] != ROOT:
        return None
    target = parts[1] if len(parts) > 1 else ROOT
    for layer in (source, target):
        if layer not in RANK and layer not in SIDE_PACKAGES:
            return f"pymodel.{layer} has no layer yet: give it one in tests/architecture.py"
    if deferred and (source, target) in DEFERRED_UPWARD:
        return None
    if source in SIDE_PACKAGES:
        allowed = ", ".join(sorted(SIDE_MAY_IMPORT))
        return None if target in SIDE_MAY_IMPORT else f"{source} knows nothing of kernels, only of {allowed}"
    if target in SIDE_PACKAGES:
        return None if source in SIDE_USERS else f"{target} is for {', '.join(sorted(SIDE_USERS))}"
    if GROUP[source] == GROUP[target] or RANK[target] < RANK[source]:
        return None
    where = "beside" if RANK[source] == RANK[target] else "above"
    return f"downward only: {target} lies {where} {source}"


def _imports(tree: ast.Module, path: Path, root: Path) -> Iterator[tuple[int, str, bool]]:
    """Yields (line, absolute module name, whether inside a function) for every import in a file."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    in_function = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        for module in _imported_modules(node, path, root):
            yield node.lineno, module, id(node) in in_function  # type: ignore[attr-defined]


def _imported_modules(node: ast.AST, path: Path, root: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node, path, root)
        if base != ROOT:
            return [base]
        # `from pymodel import x` means the layer x, or a name that pymodel/__init__.py exports.
        return [f"{ROOT}.{alias.name}" if _is_module(root, alias.name) else ROOT for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORT_CALLS:
        named = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
        return [module for module in named if isinstance(module, str)]
    return []


def _absolute(node: ast.ImportFrom, path: Path, root: Path) -> str:
    if not node.level:
        return node.module or ""
    package = path.relative_to(root).parts[:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _is_module(root: Path, name: str) -> bool:
    package = root / ROOT
    return name in RANK or (package / name).is_dir() or (package / f"{name}.py").is_file()


def _code_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields (line, description) for what is neither import, docstring nor dunder assignment."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if all(ast.unparse(target).startswith("__") for target in targets):
                continue
        yield node.lineno, ast.unparse(node).splitlines()[0]


def cpp_violations(root: Path) -> list[str]:
    """Every #include in `root/csrc` that points upwards, and pybind11 or inline assembly out of place."""
    csrc = root / "csrc"
    found = []
    for path in sorted(p for p in csrc.rglob("*") if p.suffix in CPP_SUFFIXES):
        name = path.relative_to(root)
        layer = path.relative_to(csrc).parts[0]
        if layer not in CPP_MAY_INCLUDE:
            found.append(f"{name}:1: csrc/{layer} has no layer yet (give it one in tests/architecture.py)")
            continue
        for number, line in enumerate(_without_comments(path.read_text(encoding="utf-8")).splitlines(), 1):
            rule = _broken_cpp_rule(line, path, csrc, layer)
            if rule:
                found.append(f"{name}:{number}: {line.strip()} ({rule})")
    return found


def _broken_cpp_rule(line: str, path: Path, csrc: Path, layer: str) -> str | None:
    include = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
    if include:
        header = include.group(2)
        if re.match(r"pybind11/|Python\.h$", header) and layer != "bindings":
            return "the only pybind11 code is in csrc/bindings"
        beside = (path.parent / header).resolve()
        local = include.group(1) == '"' and beside.is_file() and beside.is_relative_to(csrc.resolve())
        target = (beside.relative_to(csrc.resolve()) if local else Path(header)).parts[0]
        if target in CPP_MAY_INCLUDE and target != layer and target not in CPP_MAY_INCLUDE[layer]:
            return f"bindings -> ops -> cpu, cuda -> core: {layer} may not know {target}"
        return None
    if re.search(r"\b(asm|__asm__)\b", re.sub(r'"(\\.|[^"\\])*"', '""', line)):
        files = (PTX_FILE, TILE_UNIT_FILE, STACK_SWITCH_FILE)
        allowed = path in (csrc.parent / file for file in files)
        return None if allowed else f"inline assembly belongs in {PTX_FILE} or {TILE_UNIT_FILE}"
    return None


def _without_comments(text: str) -> str:
    """The C++ source with comments blanked and every line kept in its place."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'

    def blank(match: re.Match[str]) -> str:
        part = match.group()
        return part if part.startswith('"') else "\n" * part.count("\n")

    return re.sub(pattern, blank, text, flags=re.DOTALL)
