"""What is predicted: a target, its classes and how much it counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field


def free_name(name: str, *taken: str) -> str:
    """The name under which an output gives what is called `name`: with `_` behind it where the output has one itself.

    A column of the user's own may be called as the outputs' own columns are: `file`, `duration`, `id`, ...
    """
    while name in taken:
        name += "_"
    return name


KINDS = ("classification", "distribution", "regression")


@dataclass(frozen=True)
class Task:
    """One target of a model. The order of its classes lives here and nowhere else; it is saved with the model."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1)]  # the manifest's column: `emotion`, `gender`, `arousal`, ...
    # `classification` (class indices, -1 = missing), `distribution` (soft labels: a probability of each class, NaN =
    # missing) or `regression` (floats, NaN = missing)
    kind: Literal["classification", "distribution", "regression"]
    # class names in order; for a regression the name of its one dimension
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    # `utterance`, or `frame` for a regression of values that are annotated over time
    level: Literal["utterance", "frame"] = "utterance"
    weight: float = 1.0  # factor of the task's loss, >= 0
    adversarial: bool = False  # what the embedding must not tell: it is trained through a reversed gradient
    limits: tuple[float, float] | None = None  # of a value whose scale has ends: predictions beyond are the end itself

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Task {self.name!r}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.has_classes and len(self.labels) < 2:
            raise ValueError(
                f"Task {self.name!r} needs two classes or more, got {list(self.labels)}. "
                f"Check the column {self.name!r} of the manifest, or leave the task out with tasks=..."
            )
        if self.level == "frame" and self.kind != "regression":
            raise ValueError(f"Task {self.name!r}: only values are predicted frame by frame, not a {self.kind}.")
        if self.weight < 0:
            raise ValueError(f"Task {self.name!r}: weight must be >= 0, got {self.weight}.")
        if self.limits is not None and (self.has_classes or not self.limits[0] < self.limits[1]):
            raise ValueError(f"Task {self.name!r}: limits are the two ends of a value's scale, got {self.limits}.")
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "limits", None if self.limits is None else tuple(self.limits))

    @property
    def has_classes(self) -> bool:
        """Whether the logits are those of classes; else they are values."""
        return self.kind != "regression"

    @property
    def num_outputs(self) -> int:
        """Width C of the task's logits: a class each, or one value."""
        return len(self.labels) if self.has_classes else 1

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `Task(**d)` reads it back."""
        known = asdict(self) | {"labels": list(self.labels)}
        limits = known.pop("limits")
        return known if limits is None else known | {"limits": list(limits)}
