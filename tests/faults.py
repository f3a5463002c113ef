"""Single faults of a source file: an operator, a sign, a number, a condition, a reduction."""

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {
    pair[i]: pair[1 - i]
    for pair in (
        ("minimum", "maximum"),
        ("min", "max"),
        ("argmin", "argmax"),
        ("sum", "mean"),
        ("all", "any"),
        ("sin", "cos"),
        ("exp", "expm1"),
        ("log", "log1p"),
        ("floor", "ceil"),
    )
    for i in (0, 1)
}

# Defaults are choices, and numbers this large or small are budgets and roundings: another one that
# is near is as good.
NOT_LOGIC = (
    "annotation",
    "returns",
    "decorator_list",
    "type_params",
    "bases",
    "defaults",
    "kw_defaults",
)
LARGE, SMALL = 999, 1e-4


class Mutant(NamedTuple):
    """One fault: the `place`-th that can be planted in a file, and how it reads."""

    path: Path
    place: int
    line: int
    text: str
    before: str
    after: str

    @property
    def name(self) -> str:
        """Stays when lines above it move."""
        return f"{self.path}: {self.text} | {self.before} -> {self.after}"


def mutants(root: Path, path: Path) -> Iterator[Mutant]:
    """Every fault that can be planted in a file."""
    source = (root / path).read_text()
    lines = source.splitlines()
    for place, (node, faulty) in enumerate(faults(ast.parse(source))):
        text = lines[node.lineno - 1].strip()
        yield Mutant(path, place, node.lineno, text, ast.unparse(node), ast.unparse(faulty))


def planted(root: Path, mutant: Mutant) -> str:
    """The source of the file with the fault."""
    module = ast.parse((root / mutant.path).read_text())
    for place, (node, faulty) in enumerate(faults(module)):
        if place == mutant.place:
            node.__class__, node.__dict__ = faulty.__class__, faulty.__dict__
            return ast.unparse(module)
    raise AssertionError(f"{mutant} is not of this source")


def faults(module: ast.Module) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Expressions of a module, each with a faulty one; none of messages, types and docstrings."""
    for node in expressions(module):
        for changed in changes(node):
            yield node, ast.copy_location(changed, node)


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions that are computed, outermost first."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.alias):
        return
    if isinstance(node, ast.expr):
        yield node
    for field, value in ast.iter_fields(node):
        if field in NOT_LOGIC:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from expressions(child)


def changes(node: ast.expr) -> Iterator[ast.expr]:
    """The faults of one expression."""

    def but(**fields):
        changed = copy.deepcopy(node)
        for field, value in fields.items():
            setattr(changed, field, value)
        return changed

    match node:
        case ast.BinOp(op=operator) if type(operator) in SWAPPED:
            yield but(op=SWAPPED[type(operator)]())
        case ast.Compare(ops=operators):
            for i, operator in enumerate(operators):
                yield but(ops=[*operators[:i], SWAPPED[type(operator)](), *operators[i + 1 :]])
        case ast.BoolOp(op=operator):
            yield but(op=SWAPPED[type(operator)]())
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield copy.deepcopy(operand)
        case ast.IfExp(body=body, orelse=orelse):
            yield but(body=orelse, orelse=body)
        case ast.Constant(value=bool(value)):
            yield but(value=not value)
        case ast.Constant(value=int(value)) if value <= LARGE:
            yield but(value=value + 1)
        case ast.Constant(value=float(value)) if not 0 < value < SMALL:
            yield but(value=value * 1.25 if value else 1.0)
        case ast.Attribute(attr=name) if name in NAMES:
            yield but(attr=NAMES[name])
        case ast.Call(func=ast.Name(id=name)) if name in NAMES and name != "sum":
            yield but(func=ast.Name(NAMES[name], ast.Load()))
        case ast.Call(func=ast.Attribute(attr="where"), args=[condition, x, y]):
            yield but(args=[condition, y, x])
