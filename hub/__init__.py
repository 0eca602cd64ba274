"""Models of ours in transformers' interfaces: importing this makes transformers know them.

>>> import undertone.hub
>>> from transformers import pipeline
>>> pipeline("audio-classification", model="user/emodb-wavlm")("call.wav")  # doctest: +SKIP

`AutoConfig`, `AutoModelForAudioClassification`, `AutoFeatureExtractor` and `pipeline` then take a model folder or Hub
id of ours; no code from a repository is run, so none needs `trust_remote_code`.
"""

from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor

from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel

__all__ = ["UndertoneConfig", "UndertoneModel"]

# AutoConfig and AutoModelForAudioClassification are registered where these classes are defined.
AutoFeatureExtractor.register(UndertoneConfig, Wav2Vec2FeatureExtractor, exist_ok=True)
