"""The network: a small ViViT whose embedding is a fixed bank of motion filters, and its auxiliary head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import VivitConfig, VivitForVideoClassification

from training.camera_motion.data import FRAMES, GRID, SIDE
from training.camera_motion.labels import LABELS

TUBELET = (4, 24, 24)
LUMA = (0.299, 0.587, 0.114)
SLOTS = FRAMES // TUBELET[0]
# Channels of the width of 256, in order: outputs of the motion filters, of which the last `UNREST_FILTERS`
# respond to cuts and shakes; the first and the last frame of the tubelet; the difference between its first
# frame and the last frame of the previous tubelet; and one-hot codes of its column, row and time.
FILTERS, UNREST_FILTERS, FILTER_SCALE = 208, 48, 0.14
SEAM_FILTERS, AXES = 12, (SIDE // TUBELET[2], SIDE // TUBELET[1], SLOTS)
BEGINS, ENDS, SEAMS, PLACES = (FILTERS + i * SEAM_FILTERS for i in range(4))
PLACE_SCALE = 0.2


def new_config(width: int = 256, layers: int = 3) -> VivitConfig:
    """Return the configuration of the network, with the names of its classes."""
    return VivitConfig(
        image_size=SIDE,
        num_frames=FRAMES,
        tubelet_size=list(TUBELET),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=2 * width,
        hidden_act="gelu_fast",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )


def motion_filters(count: int, seed: int) -> Tensor:
    """`count` drifting Gabor filters (count, 4 * 24 * 24), four in a row for each channel of motion.

    Rows 4 i and 4 i + 1 are the even and the odd phase of a wave that drifts one way, 4 i + 2 and 4 i + 3 of
    the same wave drifting the other way. Every eighth channel has waves at rest, of two widths. Learning such
    filters from noise takes most of a short training.
    """
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in TUBELET], indexing="ij")
    filters = np.empty((count, *TUBELET))
    channels = count // 4
    for channel in range(channels):
        wavelength = 5.5 * (44 / 5.5) ** rng.random()
        turn = np.pi * (channel * 0.381966 % 1.0)
        # Faster than half a wavelength per frame is seen as motion the other way.
        speed = min(0.25 * 16 ** rng.random(), wavelength * 0.35)
        middle, spread = rng.uniform(-4, 4, 2), max(0.5 * wavelength, 6.0)
        for way in range(2):
            drift = 0.0 if channel % 8 == 7 else speed * (1 - 2 * way)
            length = wavelength * (1.7 if channel % 8 == 7 and way else 1.0)
            window = np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (2 * spread**2))
            phase = 2 * np.pi / length * (np.cos(turn) * x + np.sin(turn) * y - drift * t)
            for odd in range(2):
                wave = window * (np.sin(phase) if odd else np.cos(phase))
                wave -= window * wave.sum() / window.sum()
                # Pictures have more of the long waves: level what comes out.
                filters[4 * channel + 2 * way + odd] = wave / np.linalg.norm(wave) * (12.0 / length)
    return torch.from_numpy(filters.reshape(count, -1).astype(np.float32))


def unrest_filters(count: int, seed: int) -> Tensor:
    """`count` filters (count, 4 * 24 * 24) for cuts and shakes: waves that change sign in time.

    There are three rhythms of the sign. A cut excites all three, a shake the fast ones. Six rows belong to
    one wave: its even and its odd phase in each rhythm.
    """
    rng = np.random.default_rng([seed, 1])
    _, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in TUBELET], indexing="ij")
    rhythms = np.array([[-1.0, -1.0, 1.0, 1.0], [1.0, -1.0, -1.0, 1.0], [1.0, -1.0, 1.0, -1.0]])
    filters = []
    for number in range(count // 6):
        turn, wavelength = np.pi * (number * 0.381966 % 1.0), 6.0 * 4 ** rng.random()
        phase = 2 * np.pi / wavelength * (np.cos(turn) * x + np.sin(turn) * y)
        for rhythm in rhythms:
            for wave in (np.cos(phase), np.sin(phase)):
                turning = wave * rhythm[:, None, None]
                filters.append(turning / np.linalg.norm(turning) * (12.0 / wavelength))
    return torch.from_numpy(np.stack(filters).reshape(count, -1).astype(np.float32))


def seam_filters(count: int) -> Tensor:
    """Waves at rest in the first frame of a tubelet, then the same in the last: (2 * count, 4 * 24 * 24).

    Even and odd phases alternate. A cut between two tubelets is inside of neither. It shows only in the
    difference between the last frame of the one and the first frame of the other.
    """
    _, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in TUBELET], indexing="ij")
    filters = np.zeros((2, count, *TUBELET))
    for number in range(count // 2):
        turn, wavelength = np.pi * (number * 0.381966 % 1.0), 8.0 * 4 ** (number / (count // 2 - 1))
        phase = 2 * np.pi / wavelength * (np.cos(turn) * x[0] + np.sin(turn) * y[0])
        for odd, wave in enumerate((np.cos(phase), np.sin(phase))):
            # Without a mean: a light that flickers is no cut.
            level = wave - wave.mean()
            filters[0, 2 * number + odd, 0] = level / np.linalg.norm(level) * (12.0 / wavelength)
    filters[1, :, -1] = filters[0, :, 0]
    return torch.from_numpy(filters.reshape(2 * count, -1).astype(np.float32))


def place_codes() -> Tensor:
    """One-hot codes of column, row and time of each token, start token first: (65, 12)."""
    t, y, x = np.meshgrid(*[np.arange(n) for n in reversed(AXES)], indexing="ij")
    codes = np.zeros((1 + t.size, sum(AXES)), np.float32)
    for first, number in zip(np.cumsum([0, *AXES]), (x, y, t), strict=False):
        codes[np.arange(t.size) + 1, first + number.ravel()] = PLACE_SCALE
    return torch.from_numpy(codes)


def _compare_seams(attention: nn.Module) -> None:
    """Make attention subtract the end of the previous tubelet from the beginning of each tubelet.

    The first head attends to the token itself, the second to the same place one tubelet earlier (the first
    tubelet to itself). A score is the number of matching coordinates (column, row, time) of a key minus 2.5.
    So only the wanted key has a positive score, whatever the contrast by which the layer norm divides.
    """
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        getattr(attention, name).weight.zero_()
    count = sum(AXES)
    # Channels that are zero before this layer hold, after the layer norm, the mean that it subtracted.
    codes = torch.zeros(count + 1, attention.q_proj.in_features)
    codes[:count, PLACES:], codes[:count, SEAMS:PLACES] = torch.eye(count), -torch.eye(count)
    codes[count] = codes[:count].sum(0) / len(AXES)
    earlier = codes.clone()
    earlier[count - SLOTS + 1 : count] = codes[count - SLOTS : count - 1]
    seams = torch.eye(SEAM_FILTERS)
    for head, (keys, values, sign) in enumerate(((codes, BEGINS, 1.0), (earlier, ENDS, -1.0))):
        first = 64 * head
        attention.q_proj.weight[first : first + count + 1] = 16.0 * codes
        attention.k_proj.weight[first : first + count] = 16.0 * keys[:count]
        attention.k_proj.weight[first + count] = -2.5 * 16.0 * codes[count]
        attention.v_proj.weight[first : first + SEAM_FILTERS, values : values + SEAM_FILTERS] = seams
        attention.o_proj.weight[SEAMS:PLACES, first : first + SEAM_FILTERS] = sign * 0.1 * seams


def _measure_energy(first: nn.Linear, second: nn.Linear) -> None:
    """Make an MLP write the energy of each pair of filters, and amplify phases and positions.

    gelu(a) + gelu(-a) rectifies. Its sum over the even and the odd filter of a pair depends on how the edges
    move and hardly on where they are; the same holds for the differences between tubelets. gelu(a) - gelu(-a)
    is a itself. The layer norm before it divides by the contrast of the place.
    """
    width = first.in_features
    first.weight[:width], first.weight[width:] = 1.5 * torch.eye(width), -1.5 * torch.eye(width)
    second.weight.zero_()
    number = torch.arange(FILTERS)
    second.weight[number // 2, number] = second.weight[number // 2, number + width] = 0.6
    number = torch.arange(FILTERS // 2, FILTERS)
    second.weight[number, number], second.weight[number, number + width] = 0.4, -0.4
    number = torch.arange(SEAMS, PLACES)
    pair = BEGINS + (number - SEAMS) // 2
    second.weight[pair, number] = second.weight[pair, number + width] = 0.6
    number = torch.arange(PLACES, width)
    second.weight[number, number], second.weight[number, number + width] = 1.0, -1.0


class Trainee(nn.Module):
    """The classifier, and an auxiliary head (`helper`) that exists during training alone.

    The auxiliary head predicts for each token how the background moves at its place. Its targets are dense
    and exact, so motion is learned from far fewer windows than 11 labels would need. Training uses grey
    pictures, a third of the work; `finished` restores the colours.
    """

    def __init__(self, config: VivitConfig, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.classifier = VivitForVideoClassification(config)
        self.helper = nn.Linear(config.hidden_size, 4)
        self.filters = nn.Parameter(torch.zeros(config.hidden_size, int(np.prod(TUBELET))))
        vivit = self.classifier.vivit
        embeddings = vivit.embeddings
        # Wide enough for the nonlinearities to bend: with the usual deviation of 0.02, a short training never
        # leaves the linear part of a small network.
        with torch.no_grad():
            for layer in vivit.layers:
                for name, module in layer.named_modules():
                    if isinstance(module, nn.Linear):
                        into_residual = name.endswith(("o_proj", "fc2"))
                        nn.init.normal_(
                            module.weight, 0, (0.4 if into_residual else 1.0) * module.in_features**-0.5
                        )
            drifting = motion_filters(FILTERS - UNREST_FILTERS, seed)
            unrest = unrest_filters(UNREST_FILTERS, seed)
            bank = FILTER_SCALE * torch.cat([drifting, unrest, seam_filters(SEAM_FILTERS)])
            self.filters[:SEAMS] = bank
            embeddings.patch_embeddings.projection.bias.zero_()
            embeddings.position_embeddings.zero_()
            embeddings.position_embeddings[..., PLACES:] = place_codes()
            embeddings.cls_token.normal_(0, 0.3)
            embeddings.cls_token[..., PLACES:] = 0.0
            _compare_seams(vivit.layers[0].attention)
            _measure_energy(vivit.layers[0].mlp.fc1, vivit.layers[0].mlp.fc2)
        for part in (embeddings, vivit.layers[0]):
            part.requires_grad_(False)
        self.filters.requires_grad_(False)

    def front(self, tubelets: Tensor) -> Tensor:
        """Compute the fixed half, embedding and first layer: (B, 65, width)."""
        vivit = self.classifier.vivit
        tokens = tubelets @ self.filters.T
        start = vivit.embeddings.cls_token.expand(len(tokens), -1, -1)
        hidden = torch.cat([start, tokens], dim=1) + vivit.embeddings.position_embeddings
        return vivit.layers[0](hidden)

    def forward(self, tubelets: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, 11) and flow (B, SLOTS, GRID * GRID, 4) of grey tubelets in [-1, 1]."""
        vivit = self.classifier.vivit
        with torch.no_grad():
            hidden = self.front(tubelets)
        for layer in vivit.layers[1:]:
            hidden = layer(hidden)
        hidden = vivit.layernorm(hidden)
        flow = self.helper(hidden[:, 1:]).unflatten(1, (SLOTS, GRID * GRID))
        return self.classifier.classifier(hidden[:, 0]), flow

    def finished(self) -> VivitForVideoClassification:
        """Return the classifier for colour: the filters spread over R, G and B by their luma."""
        shape = self.classifier.vivit.embeddings.patch_embeddings.projection.weight.shape
        filters = self.filters.detach().view(shape[0], 1, *shape[2:]) * torch.tensor(LUMA).view(1, 3, 1, 1, 1)
        clone = VivitForVideoClassification(self.classifier.config)
        clone.load_state_dict(self.classifier.state_dict())
        with torch.no_grad():
            clone.vivit.embeddings.patch_embeddings.projection.weight.copy_(filters)
        return clone.eval()


def tubelets_of(clip: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey clip (T, H, W) cut as the network reads it: (64, 4 * 24 * 24)."""
    t, h, w = TUBELET
    parts = clip.reshape(FRAMES // t, t, SIDE // h, h, SIDE // w, w)
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, t * h * w)


def save_checkpoint(trainee: Trainee, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the classifier as a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    trainee.finished().to(dtype).save_pretrained(folder)
    # Rescaling to [-1, 1] without mean and deviation: then the "original" and the "hf" range are the same.
    processor = {
        "image_processor_type": "VivitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 127.5,
        "offset": True,
        "do_normalize": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
