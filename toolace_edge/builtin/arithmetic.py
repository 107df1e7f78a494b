"""Arithmetic from text, as people say it or as programs write it: "17 times 23", "15% of 80", "sqrt(2) * 3^2".

The text is parsed by Python's own parser and walked here: numbers, operators and a few functions, nothing else. Nothing
is evaluated by Python, and sizes are bounded, so no text can run code or fill the memory.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable

MAX_TEXT = 200  # characters
MAX_DIGITS = 300  # of any number on the way

_WORDS = (
    (r"\b(?:what is|what's|what does|how much is|calculate|compute|evaluate|equals?)\b|[?=]|\bplease\b", " "),
    (r"(?<=\d)\s+%\s+(?=[\d(])", " mod "),  # as programs write it
    (r"(\d(?:[\d.]*)?)\s*(?:%|percent\b)", r"(\1/100)"),
    (r"\b(?:multiplied by|times|x)\b|(?<=\d)(?<!\b0)\s*x\s*(?=\d)|[×·]", "*"),
    (r"\b(?:divided by|over)\b|÷", "/"),
    (r"\bplus\b", "+"),
    (r"\b(?:minus|less)\b|−", "-"),
    (r"\b(?:modulo|mod)\b", "%"),
    (r"\b(?:to the power of|raised to)\b|\^", "**"),
    (r"\bsquared\b", "**2"),
    (r"\bcubed\b", "**3"),
    (r"\b(?:the )?square root of\s*(\d[\d.]*|\([^()]*\))|√\s*(\d[\d.]*|\([^()]*\))", r"sqrt(\1\2)"),
)

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt, "abs": abs, "round": round, "floor": math.floor, "ceil": math.ceil, "min": min, "max": max,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "log": math.log, "log10": math.log10, "exp": math.exp,
}  # fmt: skip
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?![\d,])")
_CALLED = re.compile(r"\b(?:min|max|log|round)\s*$")  # what takes several numbers
_SHARE = re.compile(r"(?<![\d.])(\d[\d.]*|\.\d+)\s*(?:%|percent)\s*of\b\s*")
_OPERAND = re.compile(r"-?(?:\d[\d.]*|\.\d+)(?:\s*(?:%|percent\b))?|[a-z0-9]*\([^()]*(?:\([^()]*\)[^()]*)*\)|pi\b|e\b")
_CONSTANTS = {"pi": math.pi, "e": math.e}


def evaluate(text: str) -> float:
    """The value of the expression; an int where it is whole. Raises ValueError with a sentence."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"the expression has {len(text)} characters; {MAX_TEXT} are the limit")
    expression = _with_shares(_without_thousands(text.lower()))
    for pattern, replacement in _WORDS:
        expression = re.sub(pattern, replacement, expression)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        value = _value(tree.body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not arithmetic that can be read") from None
    except ZeroDivisionError:
        raise ValueError("division by zero has no value") from None
    except (OverflowError, TypeError) as error:
        raise ValueError(f"{text!r} cannot be computed: {error}") from None
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _without_thousands(text: str) -> str:
    """1,000 is a thousand, but what max, min, log and round are given is a list: max(1,200)."""
    out, inside, at = "", [False], 0
    while at < len(text):
        number = _THOUSANDS.match(text, at) if not any(inside) else None
        if number is not None and not (out[-1:].isdigit() or out[-1:] in (".", ",")):
            out, at = out + number[0].replace(",", ""), number.end()
            continue
        if text[at] == "(":
            inside.append(_CALLED.search(text, 0, at) is not None)
        elif text[at] == ")" and len(inside) > 1:
            inside.pop()
        out, at = out + text[at], at + 1
    return out


def _with_shares(text: str) -> str:
    """`15% of 80` in parentheses, the last one first: 20% of 50% of 100, 100 / 10% of 50."""
    for share in reversed(list(_SHARE.finditer(text))):
        whole = _OPERAND.match(text, share.end())
        if whole is not None:
            text = f"{text[: share.start()]}({share[1]}/100*{whole[0]}){text[whole.end() :]}"
    return text


def _value(node: ast.expr) -> float:
    value = _raw_value(node)
    if isinstance(value, complex):
        raise ValueError("the result is not a real number")
    if abs(value) >= 10**MAX_DIGITS or value != value:
        raise ValueError("the result is too large")
    return value


def _raw_value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value) if isinstance(node.value, float) else int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            return _power(left, right)
        if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS:
            raise ValueError(f"{node.func.id!r} is not a function known here; known are {', '.join(_FUNCTIONS)}")
        return _FUNCTIONS[node.func.id](*map(_value, node.args))
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    what = node.id if isinstance(node, ast.Name) else type(node).__name__
    raise ValueError(f"{what!r} is not a part of arithmetic")


def _power(base: float, exponent: float) -> float:
    """Bounded before it is computed: 9**9**9 would fill the memory."""
    if abs(base) > 1 and exponent * math.log10(abs(base)) > MAX_DIGITS:
        raise ValueError("the result is too large")
    return base**exponent  # type: ignore[no-any-return]
