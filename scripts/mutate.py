"""Mutation test of one module: change it in one place, run its tests, see whether they notice.

    python scripts/mutate.py packages/lb/src/microservice_lb/peak_ewma.py TEST-FILE ...

Works on a copy of the package, put in front of the installed one. Prints each survivor and the
score. Docstrings, annotations, `__slots__`, reprs and error texts are left alone.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 60.0  # seconds
LEFT_ALONE = {"__repr__", "_options", "_what", "_why", "__slots__", "__all__"}

OPERATORS: dict[type, list[type]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.FloorDiv],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.LShift: [ast.RShift],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}


def spots(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes worth a mutation."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if getattr(node, "name", "") in LEFT_ALONE or isinstance(node, ast.Raise | ast.AnnAssign):
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                waiting.append(node.value)
            continue
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in LEFT_ALONE:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        children: list[ast.AST | None] = [*ast.iter_child_nodes(node)]
        if isinstance(node, ast.FunctionDef):
            children = [*node.args.defaults, *node.args.kw_defaults, *node.body]
        waiting += [child for child in children if child is not None]


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand there by mistake."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        for kind in OPERATORS.get(type(node.op), []):
            yield changed(node, op=kind())
    elif isinstance(node, ast.Compare):
        for kind in OPERATORS.get(type(node.ops[0]), []):
            yield changed(node, ops=[kind(), *node.ops[1:]])
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield changed(node, value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield changed(node, value=node.value + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield changed(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        yield ast.Pass()


def changed(node: ast.AST, **fields: object) -> ast.AST:
    """A copy with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, the change in words, and the whole source with it."""
    tree = ast.parse(source)
    for node in list(spots(tree)):
        for other in changes(node):
            description = f"{brief(node)}  ->  {brief(other)}"
            yield node.lineno, description, replaced(tree, node, other)  # type: ignore[attr-defined]


def brief(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
    return text.splitlines()[0][:70]


def replaced(tree: ast.Module, node: ast.AST, other: ast.AST) -> str:
    """The source with one node exchanged, and the tree as it was."""

    class Exchange(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> ast.AST:
            return other if visited is node else self.generic_visit(visited)

    fresh = copy.deepcopy(tree)
    pairs = zip(ast.walk(tree), ast.walk(fresh), strict=True)
    node = next(new for old, new in pairs if old is node)
    return ast.unparse(ast.fix_missing_locations(Exchange().visit(fresh)))


def notices(tests: list[str], path: str) -> bool:
    """Whether the tests fail with the packages on `path` in front."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return True  # it hangs, which is noticed too
    return done.returncode != 0


def main(arguments: list[str]) -> int:
    """Print survivors and the score; 1 when the tests fail on the module as it is."""
    module, tests = Path(arguments[0]).resolve(), arguments[1:]
    package = module.parent
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / package.name
        shutil.copytree(package, copied)
        target = copied / module.relative_to(package)
        if notices(tests, folder):
            print("the tests fail on the module as it is; make them pass first")
            return 1
        began, tried, alive = time.monotonic(), 0, 0
        for line, description, source in mutants(module.read_text(encoding="utf-8")):
            target.write_text(source, encoding="utf-8")
            tried += 1
            if not notices(tests, folder):
                alive += 1
                print(f"survived  {module.name}:{line}: {description}", flush=True)
        minutes = (time.monotonic() - began) / 60
        score = 100 * (tried - alive) / tried
        print(
            f"{module.name}: {tried - alive} of {tried} noticed, {score:.1f} %, {minutes:.1f} min"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
