"""The settings of a ladder, `ladder.NAME=value`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class LadderOptions(BaseModel):
    """How layers are corrupted and reconstructed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: float = Field(
        0.3,
        ge=0,
        strict=True,
        description="standard deviation at the input and at every layer; Rasmus et al. use 0.3, Parthasarathy & Busso "
        "0.548",
    )
    lambdas: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (1.0,),
        description="weight of each layer's reconstruction cost from layer 0 on, the last one for all above; 0,0,1: "
        "the top layer alone (Gamma model)",
    )
    denoiser: Literal["gaussian", "mlp"] = Field(
        "gaussian", description="gaussian: ten numbers per unit; mlp: one small network for all units"
    )
    detach: bool = Field(
        True,
        strict=True,
        description="no gradient through the clean values; without it they collapse if the layer sum or upstream "
        "is trained (the paper does not detach)",
    )
    first: bool = Field(
        False,
        strict=True,
        description="reconstruct first, without labels, then freeze the layers and train the outputs: an autoencoder",
    )

    @field_validator("lambdas", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """`1,0.1` is split; one number is a list of one."""
        value = value.split(",") if isinstance(value, str) else value
        if value in ([], ()):
            raise ValueError("give one number or more, such as 1,0.1,0.1")
        return value if isinstance(value, list | tuple) else (value,)

    def weights(self, num_layers: int) -> tuple[float, ...]:
        """A weight for each of `num_layers` layers."""
        if len(self.lambdas) > num_layers:
            raise ValueError(
                f"ladder.lambdas has {len(self.lambdas)} weights, but this head has {num_layers} layers to reconstruct "
                f"with its input."
            )
        return self.lambdas + self.lambdas[-1:] * (num_layers - len(self.lambdas))
