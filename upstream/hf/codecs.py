"""The convolutional encoders of EnCodec (Défossez et al., 2022) and DAC (Kumar et al., 2023) as models of their own."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.dac.modeling_dac import DacEncoder, DacPreTrainedModel
from transformers.models.encodec.modeling_encodec import EncodecEncoder, EncodecPreTrainedModel


class EncodecEncoderModel(EncodecPreTrainedModel):
    """EnCodec up to its quantiser; its weights have the names that they have in `EncodecModel`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.encoder = EncodecEncoder(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_values: Tensor) -> BaseModelOutput:
        """(B, channels, N) -> (B, D, T); with `config.normalize`, of samples at a root mean square of 1."""
        if self.config.normalize:
            mono = input_values.mean(1, keepdim=True)
            input_values = input_values / (mono.square().mean(-1, keepdim=True).sqrt() + 1e-8)
        return BaseModelOutput(self.encoder(input_values))


class DacEncoderModel(DacPreTrainedModel):
    """DAC up to its quantiser; its weights have the names that they have in `DacModel`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.encoder = DacEncoder(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_values: Tensor) -> BaseModelOutput:
        """(B, 1, N) -> (B, D, T)."""
        return BaseModelOutput(self.encoder(input_values))


CODECS: dict[str, type[PreTrainedModel]] = {"dac": DacEncoderModel, "encodec": EncodecEncoderModel}
