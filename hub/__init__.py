"""transformers: load a model through the Auto classes and `pipeline`, export it.

Importing this package registers the Auto classes:

>>> import undertone.hub
>>> from transformers import pipeline
>>> pipeline("audio-classification", model="user/emodb-wavlm")("call.wav")  # doctest: +SKIP

`AutoConfig`, `AutoModelForAudioClassification`, `AutoFeatureExtractor` and `pipeline` then load any Undertone model,
from a folder or the Hub. `pipeline("speech-emotion-recognition", ...)` gives all tasks of a model, dimensions
included; `audio-classification` the first one. No code from a repository is run, so `trust_remote_code` is not needed.
"""

from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor

from undertone.downstream.config import UndertoneConfig, UndertoneRunConfig
from undertone.downstream.model import UndertoneModel
from undertone.hub.pipeline import SpeechEmotionPipeline

__all__ = ["SpeechEmotionPipeline", "UndertoneConfig", "UndertoneModel", "UndertoneRunConfig"]

# AutoConfig and AutoModelForAudioClassification are registered where these classes are defined.
AutoFeatureExtractor.register(UndertoneConfig, Wav2Vec2FeatureExtractor, exist_ok=True)
