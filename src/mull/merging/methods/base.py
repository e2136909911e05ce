"""The base class of merge methods: checked parameters, the paper, and one pure function on tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args, get_type_hints

from mull.errors import MullError, nearest
from mull.merging.arithmetic.operations import Operation
from mull.merging.arithmetic.source import InMemory, Mapper, Source, map_serially
from mull.words import counted

if TYPE_CHECKING:
    from torch import Tensor

METHODS: dict[str, type[Method]] = {}
ALIASES = {"linear": "mi", "task_arithmetic": "ta", "dare_linear": "dare"}
"""Names that other tools use for some methods."""
_OTHERS_SAY = {
    **dict.fromkeys(("interpolation", "interpolate", "lerp", "average", "soup", "modelsoup", "weighted"), "mi"),
    **dict.fromkeys(("taskarithmetic", "taskvector", "arithmetic"), "ta"),
    **dict.fromkeys(("spherical", "sphere"), "slerp"),
    **dict.fromkeys(("tiesmerging", "trim"), "ties"),
    **dict.fromkeys(("frechet", "riemannian"), "karcher"),
    **dict.fromkeys(("stock",), "model_stock"),
}
"""Words for them that are no names, for hints."""
Share = float | tuple[float, ...]
"""One number for all models, or one for each of them in order."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A method with its parameters. Subclasses register themselves under `name`."""

    name: ClassVar[str]
    about: ClassVar[str]
    """What the method does, in one line."""
    paper: ClassVar[str]
    coefficient: ClassVar[Literal["lambda", "alpha"] | None]
    """What the coefficient of each parameter is: λ between two models, the scale α of task vectors, or None."""
    default: ClassVar[float | None] = None
    """The coefficient if none is given; None: it must be given."""
    base: ClassVar[Literal["never", "optional", "required"]] = "never"
    """Whether the method takes a base model."""
    max_models: ClassVar[int | None] = None
    """The largest number of models; the smallest is always 2."""

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            METHODS[cls.name] = cls

    @abstractmethod
    def operation(self, source: Source, coefficient: float, measured: Any) -> Operation:
        """The operation for one tensor, made from its name, its shape and the result of `measure`. Reads no data."""

    def measure(self, source: Source, survey: Any) -> Any:
        """What `operation` must know of the data, whatever the coefficient. `survey`: what `survey` returned."""
        return None

    def __str__(self) -> str:
        """The method and its parameters: ties (density 0.2, trim tensor, normalize yes)."""
        return self.label()

    def label(self, by_tensor: Sequence[str] = ()) -> str:
        """The same; the parameters in `by_tensor` differ from tensor to tensor."""
        values = {key: "by tensor" if key in by_tensor else value for key, value in vars(self).items()}
        text = ", ".join(f"{key} {_format(value)}" for key, value in values.items() if value is not None)
        return f"{self.name} ({text})" if text else self.name

    @classmethod
    def parameters(cls) -> str:
        """The parameters with their defaults: density 0.2, trim tensor …"""
        found = {field.name: field.default for field in fields(cast(Any, cls)) if field.default is not None}
        return ", ".join(f"{key} {_format(value)}" for key, value in found.items())

    @property
    def measures(self) -> bool:
        """Whether `measure` reads tensors, so that they are read once more than the merge itself needs."""
        return type(self).measure is not Method.measure

    @property
    def takes(self) -> Literal["lambda", "alpha"] | None:
        """`coefficient`, or None if these parameters replace it."""
        return self.coefficient

    def copied_model(self, coefficient: float) -> int | None:
        """Index of the model that the result equals byte for byte at this coefficient, or None. Reads no data."""
        return int(coefficient) if self.takes == "lambda" and coefficient in (0, 1) else None

    def survey(self, sources: list[Source], mapper: Mapper) -> Any:
        """What `measure` must know of the whole model, if anything. `mapper` calls a function for each source."""
        return None

    def combine(self, models: list[Tensor], base: Tensor | None = None, coefficient: float | None = None) -> Tensor:
        """One tensor of the merged model, of the first model's dtype, from tensors of one shape in memory.

        `coefficient`: λ or α, the method's default unless given; λ may lie outside [0, 1].
        Raises `MullError` for a number of models, a base or shapes that do not fit, and for a missing or infinite λ.
        """
        import torch

        self.check_models(len(models), has_base=base is not None)
        coefficient = self.default if coefficient is None else coefficient
        if coefficient is None and self.takes is None:
            coefficient = 1.0
        if coefficient is None or coefficient - coefficient != 0:
            raise MullError(f"the method {self.name} needs a finite {self.takes}, got {coefficient}")
        shapes = {tuple(tensor.shape) for tensor in (*models, *([] if base is None else [base]))}
        if len(shapes) > 1:
            raise MullError(f"tensors of different shapes: {', '.join(map(str, sorted(shapes)))}", "give one shape")
        with torch.no_grad():
            return self._combine([model.detach() for model in models], base, coefficient)

    def _combine(self, models: list[Tensor], base: Tensor | None, coefficient: float) -> Tensor:
        import torch

        copied = self.copied_model(coefficient)
        if copied is not None:
            return models[copied].to(models[0].dtype, copy=True)
        models = [model.contiguous() for model in models]
        base = None if base is None else base.contiguous()
        source = InMemory("tensor", models, base)
        survey = self.survey([source], map_serially)
        operation = self.operation(source, coefficient, self.measure(source, survey))
        out = torch.empty(models[0].shape, dtype=models[0].dtype, device=models[0].device)
        flat = [model.view(-1) for model in models]
        operation.apply(flat, None if base is None else base.view(-1), out.view(-1), 0)
        return out

    def check_models(self, count: int, *, has_base: bool) -> None:
        """Raise MullError unless the method takes `count` models with or without a base."""
        if self.base == "required" and not has_base:
            raise MullError(f"the method {self.name} needs a base", "pass --base: the checkpoint that all came from")
        if self.base == "never" and has_base:
            raise MullError(f"the method {self.name} has no use for a base", "leave --base out")
        if count < 2 or (self.max_models is not None and count > self.max_models):
            most = self.max_models
            allowed = "2 models" if most == 2 else f"2 to {most} models" if most else "2 models or more"
            raise MullError(f"the method {self.name} takes {allowed}, got {count}")
        for name, values in vars(self).items():
            if isinstance(values, tuple) and len(values) != count:
                one = "weight" if name == "weights" else name
                given = counted(len(values), "weight" if name == "weights" else f"{name} value")
                raise MullError(f"{given} for {counted(count, 'model')}", f"give one {one} for each model, in order")

    def to_json(self) -> dict[str, Any]:
        return {"method": self.name, "parameters": asdict(self), "paper": self.paper}


def make(name: str, parameters: Mapping[str, str | float | bool] | None = None) -> Method:
    """The method `name` (or an alias of it) with its parameters, given as values or as text from a command line.

    Raises:
        MullError: an unknown method or parameter, or a value of the wrong kind.
    """
    name = ALIASES.get(name, name)
    if name not in METHODS:
        raise MullError(f"unknown method {name!r}", nearest(name, METHODS, _OTHERS_SAY))
    kind = METHODS[name]
    known = [field.name for field in fields(kind)]
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in (parameters or {}).items():
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise MullError(f"the method {name} has no parameter {key!r}", has)
        values[key] = _parse(key, value, hints[key])
    return kind(**values)


def _parse(key: str, value: Any, hint: Any) -> Any:
    if value is None and type(None) in get_args(hint):
        return None
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if type(None) in get_args(hint) else [hint]
    kind: Any = kinds[0]
    if kind == Share:
        many = "," in value if isinstance(value, str) else isinstance(value, list | tuple)
        kind = tuple[float, ...] if many else float
    given: Any = value
    choices = get_args(kind) if isinstance((get_args(kind) or (None,))[0], str) else ()
    try:
        if choices:
            check_choice(key, value, choices)
            return value
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        if kind in (int, float):
            return kind(given)
        return tuple(float(part) for part in (given.split(",") if isinstance(given, str) else given))
    except (ValueError, KeyError, TypeError, OverflowError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "numbers, as in 0.5,0.3")
        raise MullError(f"{key} cannot be {value!r}", f"it is {wanted}") from None


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise MullError unless the parameter is one of the choices."""
    if value not in choices:
        raise MullError(f"{name} cannot be {value!r}", "it is one of " + ", ".join(choices))


def each(value: Share, count: int) -> tuple[float, ...]:
    """The value of each of `count` models."""
    return value if isinstance(value, tuple) else (value,) * count


def all_values(*values: Share) -> list[tuple[float, ...]]:
    """The values of each model together, in the order given; one tuple if all models have the same."""
    count = max(len(value) if isinstance(value, tuple) else 1 for value in values)
    if any(isinstance(value, tuple) and len(value) != count for value in values):
        raise MullError("parameters for different numbers of models", "give one value for each model, in order")
    return list(zip(*(each(value, count) for value in values), strict=True))


def check_share(name: str, value: Share) -> None:
    """Raise MullError unless the parameter is a share in (0, 1], for every model."""
    for share in each(value, 1):
        if not 0 < share <= 1:
            raise MullError(f"{name} must lie in (0, 1], got {share:g}", "1 keeps every element")


def check_weights(weights: tuple[float, ...] | None) -> None:
    """Raise MullError unless the weights are finite and not all 0."""
    if weights is not None and (not any(weights) or not all(abs(weight) < 1e30 for weight in weights)):
        raise MullError(f"the weights {weights} cannot be used", "give numbers below 1e30 that are not all 0")


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_format, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
