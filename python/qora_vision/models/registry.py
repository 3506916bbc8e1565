"""The list of all architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qora_vision.engine.ops import Engine
from qora_vision.engine.tensors import Tensor
from qora_vision.models.base import ClipConfig, Model
from qora_vision.models.timesformer.checkpoint import CHECKPOINT_MAP as TIMESFORMER_MAP
from qora_vision.models.timesformer.network import Timesformer, TimesformerConfig
from qora_vision.models.trecvit.checkpoint import CHECKPOINT_MAP as TRECVIT_MAP
from qora_vision.models.trecvit.network import Trecvit, TrecvitConfig
from qora_vision.models.video_swin.checkpoint import CHECKPOINT_MAP as VIDEO_SWIN_MAP
from qora_vision.models.video_swin.network import VideoSwin, VideoSwinConfig
from qora_vision.models.videomae.checkpoint import CHECKPOINT_MAP as VIDEOMAE_MAP
from qora_vision.models.videomae.network import VideoMae, VideoMaeConfig
from qora_vision.models.vivit.checkpoint import CHECKPOINT_MAP as VIVIT_MAP
from qora_vision.models.vivit.network import Vivit, VivitConfig
from qora_vision.models.vivit_factorised_attention.checkpoint import (
    CHECKPOINT_MAP as VIVIT_FACTORISED_ATTENTION_MAP,
)
from qora_vision.models.vivit_factorised_attention.network import (
    VivitFactorisedAttention,
    VivitFactorisedAttentionConfig,
)
from qora_vision.models.vivit_factorised_encoder.checkpoint import (
    CHECKPOINT_MAP as VIVIT_FACTORISED_ENCODER_MAP,
)
from qora_vision.models.vivit_factorised_encoder.network import (
    VivitFactorisedEncoder,
    VivitFactorisedEncoderConfig,
)
from qora_vision.models.vjepa2.checkpoint import CHECKPOINT_MAP as VJEPA2_MAP
from qora_vision.models.vjepa2.network import Vjepa2, Vjepa2Config
from qora_vision.weights.maps import CheckpointMap


@dataclass(frozen=True)
class Architecture:
    """An architecture, as loading and saving need it.

    Attributes
    ----------
    name
        Name in model files.
    title
        Name for people.
    hf_model_type
        `model_type` in a Hugging Face config.json.
    config, model
        Classes of its config and network.
    checkpoint
        How checkpoints become its config and its tensors.
    hf_aliases
        Other values of `model_type` for the same network.
    """

    name: str
    title: str
    hf_model_type: str
    config: type[Any]
    model: Callable[[Any], Model]
    checkpoint: CheckpointMap[Any]
    hf_aliases: tuple[str, ...] = ()

    def build(self, config: ClipConfig, tensors: Mapping[str, Tensor], engine: Engine) -> Model:
        """Make the network and pack its weights."""
        return self.model(config).with_weights(tensors, engine)


ARCHITECTURES = (
    Architecture(
        "vivit",
        "ViViT, joint space-time attention (Arnab et al. 2021)",
        "vivit",
        VivitConfig,
        Vivit,
        VIVIT_MAP,
    ),
    Architecture(
        "vivit_factorised_encoder",
        "ViViT, factorised encoder (Arnab et al. 2021)",
        "vivit_factorised_encoder",
        VivitFactorisedEncoderConfig,
        VivitFactorisedEncoder,
        VIVIT_FACTORISED_ENCODER_MAP,
    ),
    Architecture(
        "vivit_factorised_attention",
        "ViViT, factorised self-attention or dot product (Arnab et al. 2021)",
        "vivit_factorised_attention",
        VivitFactorisedAttentionConfig,
        VivitFactorisedAttention,
        VIVIT_FACTORISED_ATTENTION_MAP,
    ),
    Architecture(
        "videomae",
        "VideoMAE (Tong et al. 2022) and VideoMAE V2 (Wang et al. 2023)",
        "videomae",
        VideoMaeConfig,
        VideoMae,
        VIDEOMAE_MAP,
        hf_aliases=("VideoMAEv2_Base",),
    ),
    Architecture(
        "timesformer",
        "TimeSformer: divided, joint or space-only attention (Bertasius et al. 2021)",
        "timesformer",
        TimesformerConfig,
        Timesformer,
        TIMESFORMER_MAP,
    ),
    Architecture(
        "vjepa2",
        "V-JEPA 2 with its attentive pooler (Assran et al. 2025)",
        "vjepa2",
        Vjepa2Config,
        Vjepa2,
        VJEPA2_MAP,
    ),
    Architecture(
        "video_swin",
        "Video Swin: attention in shifted windows (Liu et al. 2022)",
        "video_swin",
        VideoSwinConfig,
        VideoSwin,
        VIDEO_SWIN_MAP,
    ),
    Architecture(
        "trecvit",
        "TRecViT, recurrent in time, streams (Patraucean et al. 2024)",
        "trecvit",
        TrecvitConfig,
        Trecvit,
        TRECVIT_MAP,
    ),
)


def find_architecture(name: str) -> Architecture | None:
    """Return the architecture of this name, None if there is none."""
    return next((entry for entry in ARCHITECTURES if entry.name == name), None)
