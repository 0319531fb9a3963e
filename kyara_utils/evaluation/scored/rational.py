"""Small arithmetic written by a model, such as `3/4` or `(1+2)*5/6`, worked out without running it as code.

ZeroEval calls Python's `eval` on answers that hold a slash; this reads numbers, signs, brackets and + - * / // % **
only, within stated limits, and leaves everything else alone, as `eval` does by raising.
"""

import ast
import operator
import re
import warnings

LONGEST = 200  # characters; a final answer is far shorter
LARGEST = 1e300  # no step may exceed it, so that a tower of powers ends at once
ALLOWED = re.compile(rf"[0-9.+\-*/%()eE_ \t]{{1,{LONGEST}}}")
BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def evaluate(text: str) -> float | None:
    """Return the value of an arithmetic expression, or None when it is none or breaks a limit."""
    if not ALLOWED.fullmatch(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser comments on odd literals such as `1_0or`
            return float(_value(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> float | int:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            _bounded(float(abs(left)) ** float(abs(right)))  # as floats first: integers would grow without limit
        return _bounded(BINARY[type(node.op)](left, right))
    raise ValueError("not arithmetic")


def _bounded(value: float | int) -> float | int:
    if isinstance(value, complex) or abs(value) > LARGEST:
        raise ValueError("out of range")
    return value
