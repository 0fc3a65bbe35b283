"""Functions and methods of torch on expressions: what lets functions that were written for tensors build patterns.

Each is spelled out in the language's own operators; what has no spelling there is an error that names the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ._harrier import InvalidInput
from .expressions import (
    Array,
    Expression,
    as_expression,
    binary,
    clamp,
    compare,
    divide,
    exp,
    floor_divide,
    load,
    log,
    logic,
    maximum,
    minimum,
    power,
    select,
    sqrt,
    tanh,
)


class NotTraceable(InvalidInput, AttributeError):
    """A function or method of torch that the language cannot say. (Also an AttributeError, for methods are looked up.)"""


class PartialLoad:
    """A captured tensor, some of whose dimensions have their index: `bias[h]`, which awaits `[q, k]`."""

    def __init__(self, array: Array, indices: tuple[Expression, ...]) -> None:
        self.array = array
        self.indices = indices

    def __getitem__(self, more: Any) -> Expression | PartialLoad:
        return index(self.array, self.indices, more)

    def __getattr__(self, name: str) -> Any:
        raise NotTraceable(
            f"{name} of a tensor of which {len(self.indices)} of {len(self.array.value.shape)} dimensions are indexed: index "
            "the others too"
        )


def index(array: Array, indices: tuple[Expression, ...], more: Any) -> Expression | PartialLoad:
    """A tensor's element, or the part of it that is left to index."""
    more = more if isinstance(more, tuple) else (more,)
    shape = array.value.shape
    if len(indices) + len(more) > len(shape):
        raise InvalidInput(
            f"a tensor of {len(shape)} dimensions has {len(indices) + len(more)} indices; leave some out"
        )
    for one in more:
        if one is None or one is Ellipsis or isinstance(one, slice):
            raise InvalidInput(
                f"a captured tensor is indexed by {one}; index single elements, by positions and numbers"
            )
        if isinstance(one, int) and one < 0:
            one += shape[len(indices)]
        indices = (*indices, as_expression(one))
    return load(array, indices) if len(indices) == len(shape) else PartialLoad(array, indices)


class Tracing(TorchFunctionMode):
    """While it is active, captured tensors may be indexed by expressions. `has_computed` tells whether torch computed
    something on tensors alone meanwhile, whose result is then as it was at that time."""

    def __init__(self) -> None:
        super().__init__()
        self.has_computed = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(_holds_expression(x) for x in (*args, *kwargs.values())):
            return call(function, args, kwargs)
        name = getattr(function, "__name__", "")
        self.has_computed = self.has_computed or name not in ("__get__", "dim", "size")
        return function(*args, **kwargs)


def _holds_expression(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_expression(x) for x in value)
    return isinstance(value, (Expression, PartialLoad))


def call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A function of torch, or an operator of a tensor, on expressions."""
    name = getattr(function, "__name__", str(function)).split(".")[0]
    plain = name.removeprefix("__").removesuffix("__")
    if plain == "getitem":
        return index(Array("captured", args[0]), (), args[1])
    if name.startswith("__r") and plain in _REFLECTED:
        return _FUNCTIONS[_REFLECTED[plain]](args[1], args[0])
    implementation = _FUNCTIONS.get(plain)
    if implementation is None:
        raise NotTraceable(_cannot(f"torch.{plain}"))
    try:
        return implementation(*args, **kwargs)
    except TypeError as error:
        raise NotTraceable(f"torch.{plain} with such arguments ({error}): {_HELP}") from None


def method(tree: Expression, name: str) -> Any:
    """A method or attribute that a scalar tensor has: `score.tanh()`, `q_idx.clamp(min=0)`, `b.new_ones(())`."""
    if name in _ATTRIBUTES:
        return _ATTRIBUTES[name](tree)
    implementation = _METHODS.get(name) or _FUNCTIONS.get(name)
    if implementation is None:
        raise NotTraceable(_cannot(f"the method {name}"))
    return lambda *args, **kwargs: implementation(tree, *args, **kwargs)


_HELP = "it has no spelling in patterns; use comparisons, arithmetic, where, abs, clamp, minimum, exp, log, sqrt, tanh"


def _cannot(what: str) -> str:
    return f"{what} cannot be traced: {_HELP}"


def _float(x: Any) -> Expression:
    x = as_expression(x)
    return x if x.kind == "float" else binary("*", x, 1.0)


def _truth(x: Any) -> Expression:
    x = as_expression(x)
    return x if x.kind == "bool" else compare("!=", x, 0)


def _divide(x: Any, y: Any, *, rounding_mode: str | None = None) -> Expression:
    if rounding_mode == "trunc":
        raise NotTraceable(_cannot("torch.div with rounding_mode='trunc'"))
    return floor_divide(x, y) if rounding_mode == "floor" else divide(x, y)


def _power(base: Any, exponent: Any) -> Expression:
    if isinstance(base, (int, float)) and base > 0:
        return exp(binary("*", exponent, math.log(base)))
    return power(base, exponent)


def _clamp(x: Any, min: Any = None, max: Any = None) -> Expression:
    if min is not None and max is not None:
        return clamp(x, min, max)
    return maximum(x, min) if min is not None else minimum(x, max)


def _where(condition: Any, if_true: Any, if_false: Any) -> Expression:
    return select(condition, if_true, if_false)


def _convert(x: Expression, dtype: Any = None, *args: Any, **options: Any) -> Expression:
    """`to`: devices mean nothing to an expression; floats of any width are fp32, as kernels compute."""
    dtype = options.get("dtype", dtype)
    if not isinstance(dtype, torch.dtype):
        return x
    if dtype == torch.bool:
        return _truth(x)
    if dtype.is_floating_point:
        return _float(x)
    if x.kind == "float":
        raise NotTraceable(_cannot(f"a float made {dtype}"))
    return x if x.kind == "int" else binary("+", x, 0)


def _constant(x: Expression, size: Any, value: Any, dtype: Any = None, **options: Any) -> Expression:
    if size not in ((), [], torch.Size([])):
        raise InvalidInput(f"a tensor of shape {list(size)} is made while a pattern is traced; make it outside")
    if dtype == torch.bool:
        return as_expression(bool(value))
    constant = as_expression(value)
    return constant if dtype is None else _convert(constant, dtype)


def _refuse_item(x: Expression) -> Any:
    raise InvalidInput("item() of an expression: its value differs from pair to pair; keep it an expression")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: lambda x, y, op=op: binary(op, x, y) for name, op in (("add", "+"), ("sub", "-"), ("mul", "*"))},
    **{name: lambda x, y, op=op: binary(op, x, y) for name, op in (("subtract", "-"), ("multiply", "*"))},
    **{name: lambda x, y, op=op: binary(op, x, y) for name, op in (("remainder", "%"), ("mod", "%"))},
    **{name: lambda x, y, op=op: compare(op, x, y) for name, op in (("lt", "<"), ("le", "<="), ("gt", ">"))},
    **{name: lambda x, y, op=op: compare(op, x, y) for name, op in (("ge", ">="), ("eq", "=="), ("ne", "!="))},
    **{name: lambda x, y, op=op: compare(op, x, y) for name, op in (("less", "<"), ("less_equal", "<="))},
    **{name: lambda x, y, op=op: compare(op, x, y) for name, op in (("greater", ">"), ("greater_equal", ">="))},
    "not_equal": lambda x, y: compare("!=", x, y),
    **{name: lambda x, y, op=op: logic(op, x, y) for name, op in (("and", "&"), ("or", "|"), ("xor", "^"))},
    **{
        f"bitwise_{name}": lambda x, y, op=op: logic(op, x, y) for name, op in (("and", "&"), ("or", "|"), ("xor", "^"))
    },
    **{
        f"logical_{name}": lambda x, y, op=op: logic(op, _truth(x), _truth(y))
        for name, op in (("and", "&"), ("or", "|"), ("xor", "^"))
    },
    "logical_not": lambda x: ~_truth(x),
    "bitwise_not": lambda x: ~as_expression(x),
    "invert": lambda x: ~as_expression(x),
    "lshift": lambda x, y: binary("<<", x, y),
    "rshift": lambda x, y: binary(">>", x, y),
    "bitwise_left_shift": lambda x, y: binary("<<", x, y),
    "bitwise_right_shift": lambda x, y: binary(">>", x, y),
    "div": _divide,
    "divide": _divide,
    "true_divide": _divide,
    "truediv": _divide,
    "floor_divide": floor_divide,
    "floordiv": floor_divide,
    "pow": _power,
    "float_power": lambda x, y: _power(_float(x), y),
    "square": lambda x: power(x, 2),
    "neg": lambda x: -as_expression(x),
    "negative": lambda x: -as_expression(x),
    "positive": as_expression,
    "abs": lambda x: abs(as_expression(x)),
    "absolute": lambda x: abs(as_expression(x)),
    "sign": lambda x: select(compare(">", x, 0), 1, select(compare("<", x, 0), -1, 0)),
    "exp": exp,
    "exp2": lambda x: exp(binary("*", x, math.log(2))),
    "expm1": lambda x: exp(x) - 1.0,
    "log": log,
    "log2": lambda x: log(x) * (1 / math.log(2)),
    "log10": lambda x: log(x) * (1 / math.log(10)),
    "log1p": lambda x: log(binary("+", x, 1.0)),
    "sqrt": sqrt,
    "rsqrt": lambda x: 1.0 / sqrt(x),
    "reciprocal": lambda x: divide(1.0, x),
    "tanh": tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + exp(-as_expression(x))),
    "silu": lambda x, inplace=False: divide(x, 1.0 + exp(-as_expression(x))),
    "softplus": lambda x: log(1.0 + exp(x)),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0, inplace=False: clamp(x, min_val, max_val),
    "relu": lambda x, inplace=False: maximum(x, 0.0),
    "minimum": minimum,
    "maximum": maximum,
    "min": minimum,
    "max": maximum,
    "fmin": minimum,
    "fmax": maximum,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda x, min: maximum(x, min),
    "clamp_max": lambda x, max: minimum(x, max),
    "where": _where,
    "masked_fill": lambda x, mask, value: select(mask, value, x),
    "zeros_like": lambda x, **options: _constant(x, (), 0.0 if x.kind == "float" else 0, **options),
    "ones_like": lambda x, **options: _constant(x, (), 1.0 if x.kind == "float" else 1, **options),
    "full_like": lambda x, fill_value, **options: _constant(x, (), fill_value, **options),
}

# Operators of a tensor that stands at the left of an expression come here by their own names, at its right by these.
_REFLECTED = {
    "radd": "add",
    "rsub": "sub",
    "rmul": "mul",
    "rdiv": "div",
    "rtruediv": "div",
    "rfloordiv": "floor_divide",
    "rmod": "remainder",
    "rpow": "pow",
    "rand": "and",
    "ror": "or",
    "rxor": "xor",
    "rlshift": "lshift",
    "rrshift": "rshift",
}

_METHODS: dict[str, Callable[..., Any]] = {
    "to": _convert,
    "type": _convert,
    "float": _float,
    "double": _float,
    "half": _float,
    "bfloat16": _float,
    "int": lambda x: _convert(x, torch.int32),
    "long": lambda x: _convert(x, torch.int64),
    "bool": _truth,
    "clone": lambda x: x,
    "detach": lambda x: x,
    "contiguous": lambda x: x,
    "dim": lambda x: 0,
    "size": lambda x: torch.Size([]),
    "numel": lambda x: 1,
    "new_ones": lambda x, size=(), **options: _constant(x, size, 1, **options),
    "new_zeros": lambda x, size=(), **options: _constant(x, size, 0, **options),
    "new_full": lambda x, size, fill_value, **options: _constant(x, size, fill_value, **options),
    "new_tensor": lambda x, data, **options: _constant(x, (), data, **options),
    "item": _refuse_item,
    "tolist": _refuse_item,
}

_ATTRIBUTES: dict[str, Callable[[Expression], Any]] = {
    "dtype": lambda x: {"bool": torch.bool, "int": torch.int32, "float": torch.float32}[x.kind],
    "device": lambda x: torch.device("cpu"),
    "shape": lambda x: torch.Size([]),
    "ndim": lambda x: 0,
    "requires_grad": lambda x: False,
}
