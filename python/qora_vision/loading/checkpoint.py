"""Read a published checkpoint as a model: its architecture, config, preprocessing and tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qora_vision.errors import CheckpointError, listed, shown
from qora_vision.loading.class_names import assumed_names, names_of, own_name
from qora_vision.loading.conversion import CheckpointTensors, candidates_of, find_sources, is_there
from qora_vision.loading.model import LoadedModel, check_extent, size_faults
from qora_vision.loading.options import LoadOptions, ValueRange
from qora_vision.models.base import ClipConfig, config_to_dict
from qora_vision.models.registry import ARCHITECTURES, Architecture
from qora_vision.video import Preprocessing
from qora_vision.weights.checkpoints import Checkpoint, open_checkpoint, read_json
from qora_vision.weights.config_fields import scoring_of
from qora_vision.weights.format import ModelFile
from qora_vision.weights.maps import CheckpointMap

# In the order in which transformers 5 reads them; the first is used only if it holds a "video_processor".
NESTED_PROCESSOR_FILE = "processor_config.json"
PROCESSOR_FILES = (NESTED_PROCESSOR_FILE, "video_preprocessor_config.json", "preprocessor_config.json")


def import_checkpoint(source: Path, options: LoadOptions) -> LoadedModel:
    """Read a checkpoint: a directory with config.json, or a file of an original implementation.

    Its tensors are `CheckpointTensors`: each is read and converted at every access, and not kept in memory.
    `held` keeps them.

    Raises
    ------
    CheckpointError
        If it is damaged, incomplete, or of an architecture that is not supported.
    OSError
        If it cannot be read.
    """
    architecture, fields, checkpoint = _open_source(source)
    config = _read_config(architecture.checkpoint, fields, checkpoint, source)
    from importlib.metadata import version  # slow to import, and needed only for conversions

    provenance = {
        "created_by": f"qora-vision {version('qora-vision')}",
        "source": own_name(fields) or source.resolve().name,
    }
    labels, classes = None, config.num_classes
    if classes is not None and not options.labels_given:
        labels = names_of(fields, classes, source)
        if labels is None:
            labels, origin = assumed_names(classes, source, fields)
            provenance |= origin
    preprocessing = _read_preprocessing(
        source, architecture.checkpoint, config, options.checkpoint_value_range
    )
    if faults := size_faults(preprocessing, config):
        raise CheckpointError(f"{source}: {faults[0]}")
    specs = config.tensor_specs()
    sources = find_sources(architecture.checkpoint, specs, checkpoint, source)
    if architecture.checkpoint.check is not None:
        architecture.checkpoint.check(checkpoint, config)
    file = ModelFile(
        architecture=architecture.name,
        config=config_to_dict(config),
        preprocessing=preprocessing.to_dict(),
        labels=labels,
        quantization=options.checkpoint_weights,
        task="embed" if classes is None else "classify",
        scoring="softmax" if classes is None else scoring_of(fields),
        provenance=provenance,
        tensors=CheckpointTensors(checkpoint, specs, sources, options),
    )
    return LoadedModel(architecture, config, preprocessing, file)


def held(model: LoadedModel, options: LoadOptions) -> LoadedModel:
    """Return the model with its quantised weights in memory instead of read again at each access.

    Weights that are not quantised are still read at each access: in memory they would take as much as the
    packed weights, which a network keeps anyway.
    """
    if not options.is_quantised or not isinstance(model.file.tensors, CheckpointTensors):
        return model
    return replace(model, file=replace(model.file, tensors=model.file.tensors.read_all()))


def _open_source(source: Path) -> tuple[Architecture, Mapping[str, Any], Checkpoint]:
    """Return architecture, fields of config.json and tensors of a checkpoint."""
    if source.is_dir():
        fields = read_json(source / "config.json")
        architecture = _architecture_of(fields, source)
        return architecture, fields, _named_by(architecture.checkpoint, open_checkpoint(source))
    opened = open_checkpoint(source)
    for architecture in ARCHITECTURES:
        read_fields = architecture.checkpoint.original_fields
        if read_fields is None:
            continue
        checkpoint = opened.without_prefixes(architecture.checkpoint.prefixes)
        try:
            original = read_fields(checkpoint)
        except ValueError as error:
            raise CheckpointError(f"{source}: {error}") from error
        if original is not None:
            return architecture, original, checkpoint
    names = listed(sorted(opened)[:6])
    raise CheckpointError(
        f"{source}: its tensors ({names}, ...) match no supported original implementation; to load a "
        "checkpoint of Hugging Face, give its directory, with config.json"
    )


def _named_by(checkpoint_map: CheckpointMap[Any], checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint under the names that its map knows: without prefixes of no meaning.

    An encoder that Hugging Face saved by itself gets the prefix that its names have within a classifier.
    """
    prefix = checkpoint_map.encoder_prefix
    if prefix is not None:
        plain = checkpoint.without_prefixes(())
        (first, *_) = candidates_of(checkpoint_map, "embed.weight")[0].names
        if first.removeprefix(prefix) in plain:
            return plain.with_prefix(prefix)
    return checkpoint.without_prefixes(checkpoint_map.prefixes)


def _architecture_of(fields: Mapping[str, Any], directory: Path) -> Architecture:
    model_type = fields.get("model_type")
    for entry in ARCHITECTURES:
        if model_type in (entry.hf_model_type, *entry.hf_aliases):
            return entry
    known = ", ".join(entry.hf_model_type for entry in ARCHITECTURES)
    raise CheckpointError(
        f"{directory}: config.json has model_type {shown(model_type)}, which is not supported "
        f"(supported: {known})"
    )


def _read_config(
    checkpoint_map: CheckpointMap[Any], fields: Mapping[str, Any], checkpoint: Checkpoint, source: Path
) -> ClipConfig:
    heads = candidates_of(checkpoint_map, "head.weight")
    head = next((item for item in heads if is_there(item, checkpoint)), None)
    if head is None and (checkpoint_map.encoder_prefix is None or _is_said_to_classify(fields)):
        raise CheckpointError(
            f"{source}: missing tensors: {heads[0].names[0]}; this is no checkpoint of a classifier"
        )
    try:
        classes = None if head is None else head.shape(checkpoint)[0]
        config: ClipConfig = checkpoint_map.read_config(fields, classes)
        check_extent(config)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        text = str(error)
        if source.is_dir() and "config.json" not in text:
            text = f"config.json: {_in_their_words(text, fields, checkpoint_map.field_names)}"
        raise CheckpointError(f"{source}: {text}") from error
    return config


def _in_their_words(text: str, fields: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Name fields as config.json does, where it has them."""
    theirs = {name: names[name] for name in names if names[name] in fields}
    return re.sub(r"\w+", lambda match: theirs.get(match[0], match[0]), text)


def _is_said_to_classify(fields: Mapping[str, Any]) -> bool:
    """Whether config.json names a class with a classifier: without one, the checkpoint is incomplete."""
    names = fields.get("architectures")
    return isinstance(names, list) and any(
        isinstance(name, str) and name.endswith("ForVideoClassification") for name in names
    )


def _read_preprocessing(
    source: Path, checkpoint_map: CheckpointMap[Any], config: ClipConfig, value_range: ValueRange
) -> Preprocessing:
    """Read the checkpoint's own processor, else take the published protocol at the model's size."""
    protocol = checkpoint_map.protocol(config)
    found = _read_processor(source)
    try:
        # Invalid sizes come from the config, so the error names config.json.
        Preprocessing(num_frames=config.num_frames, stride=protocol.stride)
    except ValueError as error:
        raise CheckpointError(f"{source}: config.json: {error}") from error
    preprocessing = Preprocessing.from_hf(
        protocol.processor if found is None else found,
        num_frames=config.num_frames,
        sampling=protocol.sampling,
        stride=protocol.stride,
        value_range=value_range,
        default_processor=protocol.processor["image_processor_type"],
    )
    if found is None and protocol.resize_rule is not None:
        preprocessing = replace(preprocessing, resize_rule=protocol.resize_rule)
    return preprocessing


def _read_processor(source: Path) -> Mapping[str, Any] | None:
    """Return the processor that `AutoVideoProcessor` of transformers 5 finds, None where there is none."""
    for name in PROCESSOR_FILES:
        path = source / name
        if not path.exists():
            continue
        fields = read_json(path)
        if name == NESTED_PROCESSOR_FILE:
            nested = fields.get("video_processor")
            if nested is None:
                continue
            if not isinstance(nested, dict):
                raise CheckpointError(f"{path}: video_processor must be an object, got {shown(nested)}")
            return nested
        return fields
    return None
