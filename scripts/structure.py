"""Print how the code is structured: imports, cycles, long functions, repeated blocks.

Usage: python scripts/structure.py [FOLDER] [--check]

FOLDER is a checkout, by default the one that holds this script. ``--check`` prints only what breaks
the limits of this project and ends with status 1 if anything does. Needs grimp, which import-linter
installs.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from itertools import pairwise
from pathlib import Path

import grimp

PACKAGES = ("device", "cloud", "shared")
OWN = (*PACKAGES, "scripts", "deploy")
CHECKED = (*OWN, "tests")
FUNCTION_LINES = 60
ARGUMENTS = 8
FILE_LINES = 400
BLOCK_LINES = 12
SHORT_BLOCK_LINES = 8  # listed in the report, but allowed
LISTED = 10

Edges = Mapping[str, Set[str]]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function: its place, its length, and its number of arguments without ``self``."""

    place: str
    lines: int
    arguments: int


@dataclass(frozen=True)
class Class:
    """A class: its place, its length, and the number of attributes that its methods assign."""

    place: str
    lines: int
    attributes: int


@dataclass(frozen=True)
class Block:
    """A block of ``lines`` lines of code that occurs at two or more places."""

    lines: int
    places: tuple[str, ...]


def main() -> int:
    """Print the report or the violations; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--check", action="store_true", help="only what breaks the limits")
    given = parser.parse_args()
    code = Code(given.folder)
    lines = list(violations(code) if given.check else report(code))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if given.check and lines else 0


def violations(code: Code) -> Iterator[str]:
    """Yield a line for every violation of a limit."""
    for cycle in all_cycles(code.graph):
        yield f"import cycle: {' -> '.join(cycle)}"
    for one in code.functions(CHECKED):
        if one.lines > FUNCTION_LINES:
            yield f"{one.place}: {one.lines} lines; at most {FUNCTION_LINES} are allowed"
        if one.arguments > ARGUMENTS:
            yield f"{one.place}: {one.arguments} arguments; at most {ARGUMENTS} are allowed"
    for path, text in code.texts.items():
        lines = text.count("\n")
        if lines > FILE_LINES:
            yield f"{path}: {lines} lines; at most {FILE_LINES} are allowed"
    for block in code.repeated_blocks(BLOCK_LINES):
        yield f"{block.lines} lines are repeated: {', '.join(block.places)}"


def report(code: Code) -> Iterator[str]:
    """Yield the lines of the report, which leaves out tests."""
    yield "package   children layers edges | modules imports lines"
    for package in PACKAGES:
        yield package_row(code, package)
    cycles = list(all_cycles(code.graph))
    yield f"\nimport cycles: {len(cycles)}"
    for cycle in cycles:
        yield f"  {' -> '.join(cycle)}"
    functions = sorted(code.functions(OWN), key=lambda one: -one.lines)
    long = [one for one in functions if one.lines > FUNCTION_LINES]
    wide = [one for one in functions if one.arguments > ARGUMENTS]
    for title, chosen in (
        (f"functions over {FUNCTION_LINES} lines", long),
        (f"functions over {ARGUMENTS} arguments", wide),
        (f"the {LISTED} longest functions", functions[:LISTED]),
    ):
        yield f"\n{title}, typer's commands aside: {len(chosen)}"
        yield from (f"  {f.lines:4} lines {f.arguments:3} arguments  {f.place}" for f in chosen)
    classes = sorted(code.classes(OWN), key=lambda one: -one.lines)[:LISTED]
    yield f"\nthe {LISTED} longest classes"
    yield from (f"  {c.lines:4} lines {c.attributes:3} attributes  {c.place}" for c in classes)
    for least in (BLOCK_LINES, SHORT_BLOCK_LINES):
        blocks = code.repeated_blocks(least)
        yield f"\nrepeated blocks of {least} or more lines: {len(blocks)}"
        yield from (f"  {block.lines:4} lines  {', '.join(block.places)}" for block in blocks)


def package_row(code: Code, package: str) -> str:
    """Return a row: children, layers and edges between them; modules, imports and lines.

    Children are the direct subpackages and modules of ``package``. An edge is that one imports
    another, and ``layers`` is the height of the graph of them.
    """
    children = imports_between_children(code.graph, package)
    edges = sum(len(targets) for targets in children.values())
    modules = {one for one in code.graph.modules if one.split(".")[0] == package}
    imported = (code.graph.find_modules_directly_imported_by(one) for one in modules)
    imports = sum(len(targets & modules) for targets in imported)
    lines = sum(
        text.count("\n") for path, text in code.texts.items() if path.startswith(f"{package}/")
    )
    return (
        f"{package:9} {len(children):8} {layers(children):6} {edges:5} | "
        f"{len(modules):7} {imports:7} {lines:5}"
    )


class Code:
    """The handwritten modules of a checkout, by their paths below ``folder``."""

    def __init__(self, folder: Path) -> None:
        paths = (path for top in CHECKED for path in sorted((folder / top).rglob("*.py")))
        self.texts = {
            str(path.relative_to(folder)): path.read_text()
            for path in paths
            if "_pb2" not in path.name
        }
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}
        self.graph = import_graph(folder)

    def functions(self, tops: Sequence[str]) -> Iterator[Function]:
        """Yield the functions in the folders ``tops``, except typer's commands."""
        commands = registered_commands(self.trees.values())
        for path, tree in self.trees.items():
            if path.split("/")[0] in tops:
                yield from find_functions(path, tree, commands.get(Path(path).stem, set()))

    def classes(self, tops: Sequence[str]) -> Iterator[Class]:
        """Yield the classes in the folders ``tops``."""
        for path, tree in self.trees.items():
            if path.split("/")[0] in tops:
                yield from find_classes(path, tree)

    def repeated_blocks(self, least: int) -> list[Block]:
        """Return the repeated blocks of at least ``least`` lines of code outside of tests."""
        lines = {
            path: code_lines(self.texts[path], tree)
            for path, tree in self.trees.items()
            if path.split("/")[0] in OWN
        }
        return repeated_blocks(lines, least)


def import_graph(folder: Path) -> grimp.ImportGraph:
    """Return the imports of the packages in ``folder``, even if another checkout is installed."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
    sys.path.insert(0, str(folder.resolve()))
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    stubs = (path for top in PACKAGES for path in (folder / top).rglob("*.pyi"))
    for stub in stubs:
        add_compiled(graph, ".".join(stub.relative_to(folder).with_suffix("").parts))
    return graph


def add_compiled(graph: grimp.ImportGraph, module: str) -> None:
    """Add a compiled module. As it has no source, grimp counts its imports as its package's."""
    package, _, name = module.rpartition(".")
    graph.add_module(module)
    for importer in graph.find_modules_that_directly_import(package):
        details = graph.get_import_details(importer=importer, imported=package)
        if details and all(name in one["line_contents"].split() for one in details):
            graph.remove_import(importer=importer, imported=package)
            graph.add_import(importer=importer, imported=module)


def imports_between_children(graph: grimp.ImportGraph, package: str) -> dict[str, set[str]]:
    """Return for each direct child of ``package`` the siblings that it or its modules import."""
    children = sorted(graph.find_children(package))
    members = {child: {child} | graph.find_descendants(child) for child in children}
    home = {module: child for child, modules in members.items() for module in modules}
    edges: dict[str, set[str]] = {child: set() for child in children}
    for module, child in home.items():
        imported = graph.find_modules_directly_imported_by(module)
        edges[child] |= {home[one] for one in imported if one in home} - {child}
    return edges


def reachable(edges: Edges) -> dict[str, set[str]]:
    """Return for each node all nodes that can be reached from it over at least one edge."""
    found: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        waiting = list(edges[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += edges[node]
        found[start] = seen
    return found


def cycles_of(edges: Edges) -> Iterator[tuple[str, ...]]:
    """Yield the groups of nodes that can reach each other."""
    reach = reachable(edges)
    done: set[str] = set()
    for node in sorted(edges):
        if node in reach[node] and node not in done:
            group = sorted(one for one in reach[node] if node in reach[one])
            done.update(group)
            yield tuple(group)


def all_cycles(graph: grimp.ImportGraph) -> Iterator[tuple[str, ...]]:
    """Yield the cycles between modules, and between the children of every package."""
    modules = {one: graph.find_modules_directly_imported_by(one) for one in graph.modules}
    yield from cycles_of(modules)
    for package in sorted(graph.modules):
        if graph.find_children(package):
            yield from cycles_of(imports_between_children(graph, package))


def layers(edges: Edges) -> int:
    """Return the number of layers in which all edges point down; a cycle counts as one node."""
    reach = reachable(edges)
    height: dict[str, int] = {}
    for node in sorted(edges, key=lambda one: len(reach[one] - {one})):
        below = [one for one in reach[node] if node not in reach[one]]
        height[node] = 1 + max((height[one] for one in below), default=0)
    return max(height.values(), default=0)


def find_functions(path: str, tree: ast.Module, commands: Set[str]) -> Iterator[Function]:
    """Yield a module's functions, except typer's commands, whose arguments are flags."""
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode) and not is_command(node, commands):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            named += [one for one in (given.vararg, given.kwarg) if one is not None]
            count = len([one for one in named if one.arg not in ("self", "cls")])
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(f"{path}:{node.lineno} {node.name}", lines, count)


def is_command(node: FunctionNode, registered: Set[str]) -> bool:
    """Return whether a function is a typer command: decorated, or in ``registered``."""
    words = [ast.unparse(one) for one in node.decorator_list]
    decorated = any(".command(" in one or ".callback(" in one for one in words)
    return decorated or node.name in registered


def registered_commands(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Return by module the functions that ``app.command()(module.function)`` makes commands."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in (one for tree in trees for one in ast.walk(tree)):
        match node:
            case ast.Call(
                func=ast.Call(func=ast.Attribute(attr="command")),
                args=[ast.Attribute(value=ast.Name(id=module), attr=name)],
            ):
                found[module].add(name)
    return found


def find_classes(path: str, tree: ast.Module) -> Iterator[Class]:
    """Yield the classes of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            attributes = {
                one.attr
                for one in ast.walk(node)
                if isinstance(one, ast.Attribute)
                and isinstance(one.ctx, ast.Store)
                and isinstance(one.value, ast.Name)
                and one.value.id == "self"
            }
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Class(f"{path}:{node.lineno} {node.name}", lines, len(attributes))


def code_lines(text: str, tree: ast.Module) -> list[tuple[int, str]]:
    """Return number and text of the lines of code.

    Comments, docstrings, imports and lines of nothing but brackets are left out.
    """
    skipped: set[int] = set()
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    comments = {
        token.start[0]: token.start[1]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        logic = line[: comments.get(number, len(line))].strip()
        if number not in skipped and logic.strip("()[]{},:"):
            found.append((number, logic))
    return found


def repeated_blocks(lines: Mapping[str, list[tuple[int, str]]], least: int) -> list[Block]:
    """Return the longest blocks of at least ``least`` lines that occur at two or more places."""
    windows: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for path, rows in lines.items():
        for start in range(len(rows) - least + 1):
            windows[tuple(logic for _, logic in rows[start : start + least])].append((path, start))
    spots = sorted(tuple(places) for places in windows.values() if len(places) > 1)
    blocks: list[Block] = []
    length = least
    for places, following in pairwise([*spots, ()]):
        if following == tuple((path, start + 1) for path, start in places):
            length += 1
            continue
        first = [(path, start - (length - least)) for path, start in places]
        names = tuple(f"{path}:{lines[path][start][0]}" for path, start in first)
        blocks.append(Block(length, names))
        length = least
    return blocks


if __name__ == "__main__":
    sys.exit(main())
