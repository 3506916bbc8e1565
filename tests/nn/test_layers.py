"""Layers: what they list, what they read when they get their weights, and what they then hold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from qora_vision.engine.ops import Engine, quantize
from qora_vision.engine.tensors import Tensor
from qora_vision.models.timesformer.network import TimesformerConfig
from qora_vision.models.trecvit.network import TrecvitConfig
from qora_vision.models.trecvit.recurrent import Decay, Gates, OffsetRmsNorm, RecurrentBlock
from qora_vision.models.video_swin.network import Merge, VideoSwinConfig
from qora_vision.models.videomae.network import VideoMaeConfig
from qora_vision.models.vivit.network import VivitConfig
from qora_vision.models.vivit_factorised_attention.network import VivitFactorisedAttentionConfig
from qora_vision.models.vivit_factorised_encoder.network import VivitFactorisedEncoderConfig
from qora_vision.models.vjepa2.network import AttentivePooler, Rotary, Vjepa2Config
from qora_vision.nn.attention import QkvProjection, SelfAttention, TimeAttention
from qora_vision.nn.block import Block, BlockConfig, plain_block, plain_stack
from qora_vision.nn.embedding import ComputedTable, Table, TubeletEmbedding
from qora_vision.nn.heads import Head, NormedHead
from qora_vision.nn.layer import Layer, LayerList, Module
from qora_vision.nn.linear import FusedLinear, Linear
from qora_vision.nn.mlp import Mlp
from qora_vision.nn.norm import LayerNorm
from qora_vision.nn.specs import TensorScope, TensorSpec, join_names
from qora_vision.nn.workspace import Workspace

RNG = np.random.default_rng(0)
EXACT = Engine("exact")
DIM, HEADS = 12, 3
BLOCK = BlockConfig(DIM, HEADS, 20, "gelu", 1e-6, biased="qv")
ATTENTION = BLOCK.attention

LAYERS: dict[str, Callable[[], Layer]] = {
    "table": lambda: Table(5, DIM),
    "tubelets": lambda: TubeletEmbedding((2, 4, 4), 3, DIM),
    "norm": lambda: LayerNorm(DIM, 1e-6),
    "linear": lambda: Linear(DIM, 5),
    "linear without bias": lambda: Linear(DIM, 5, bias=False),
    "fused": lambda: FusedLinear({"a": Linear(DIM, 3), "b": Linear(DIM, 4, bias=False)}),
    "projection": lambda: QkvProjection(ATTENTION, "norm1", BLOCK.norm(), "attn"),
    "attention": lambda: SelfAttention(ATTENTION, BLOCK.norm()),
    "attention of the first row": lambda: SelfAttention(ATTENTION, BLOCK.norm(), first_row_only=True),
    "attention over time": lambda: TimeAttention(ATTENTION, BLOCK.norm(), cls_tokens=1),
    "MLP": BLOCK.mlp,
    "block": lambda: plain_block(BLOCK),
    "stack": lambda: plain_stack(BLOCK, 2, first_row_only=True),
    "head": lambda: Head(DIM, 5),
    "head with pre-logits": lambda: Head(DIM, 5, 7),
    "normed head": lambda: NormedHead("norm", BLOCK.norm(), DIM, 5),
    "computed table": lambda: ComputedTable(lambda: np.zeros((6, DIM), np.float32)),
    "rotary": lambda: Rotary((2, 3, 3), 12),
    "pooler": lambda: AttentivePooler(BLOCK),
    "merge": lambda: Merge(DIM, 1e-5),
    "RMS norm": lambda: OffsetRmsNorm(DIM, 1e-6),
    "gates": lambda: Gates(24, 3),
    "decay": lambda: Decay(24),
    "recurrent block": lambda: RecurrentBlock(DIM, 24, 3, 4, 1e-6),
}


class Recorded(Mapping[str, Tensor]):
    """Random tensors that are made when they are asked for; `asked` has the names in order."""

    def __init__(self, specs: Mapping[str, TensorSpec], kind: str = "f32") -> None:
        self._specs = specs
        self._kind = kind
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> Tensor:
        self.asked.append(name)
        spec = self._specs[name]
        values = RNG.standard_normal(spec.shape).astype(np.float32)
        return quantize(values, self._kind) if spec.quantisable and self._kind != "f32" else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def below(name: str, specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    return {join_names(name, tensor): spec for tensor, spec in specs.items()}


def bound(layer: Layer, kind: str = "f32", engine: Engine = EXACT) -> Layer:
    layer.bind(engine, TensorScope(Recorded(below("x", layer.specs()), kind), "x"))
    return layer


@pytest.mark.parametrize("kind", ["f32", "q4"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_reads_the_tensors_that_it_lists(name: str, kind: str) -> None:
    layer = LAYERS[name]()
    specs = below("a.b", layer.specs())
    tensors = Recorded(specs, kind)
    layer.bind(EXACT, TensorScope(tensors, "a.b"))
    assert set(tensors.asked) == set(specs)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_as_large_as_its_tensors(name: str) -> None:
    """At least: panels are padded. Those without tensors hold what they compute."""
    layer = bound(LAYERS[name]())
    listed = 4 * sum(int(np.prod(spec.shape)) for spec in layer.specs().values())
    assert layer.nbytes >= max(listed, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_a_module_is_as_large_as_its_parts(name: str) -> None:
    module = Module()
    for part in ("one", "two"):
        module.add(part, LAYERS[name]())
    assert bound(module).nbytes == 2 * bound(LAYERS[name]()).nbytes
    single = LAYERS[name]().specs()
    assert module.specs() == below("one", single) | below("two", single)


def test_quantised_weights_take_less() -> None:
    wide = BlockConfig(64, 4, 256, "gelu", 1e-6)
    auto = Engine("auto")
    assert bound(plain_block(wide), "q4", auto).nbytes < bound(plain_block(wide), "f32", EXACT).nbytes / 3


def test_tensors_are_listed_in_the_order_of_the_calls() -> None:
    module = Module()
    module.add("b", Linear(2, 3))
    module.add("a.c", LayerNorm(4, 1e-6))
    module.add("", Head(2, 3))
    module.add("d", Table(5))
    assert list(module.specs()) == [
        "b.weight",
        "b.bias",
        "a.c.weight",
        "a.c.bias",
        "head.weight",
        "head.bias",
        "d",
    ]


def test_a_block_names_its_tensors_as_model_files_do() -> None:
    specs = plain_block(BLOCK).specs()
    assert list(specs) == [
        *("norm1.weight", "norm1.bias"),
        *("attn.q.weight", "attn.q.bias", "attn.k.weight", "attn.v.weight", "attn.v.bias"),
        *("attn.proj.weight", "attn.proj.bias", "norm2.weight", "norm2.bias"),
        *("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
    ]
    assert specs["mlp.fc1.weight"] == TensorSpec((20, DIM), "weight")
    assert plain_block(BLOCK, first_row_only=True).specs() == specs


def test_layers_in_a_list_are_numbered() -> None:
    layers = LayerList(Table(n) for n in (3, 4))
    assert layers.specs() == {"0": TensorSpec((3,), "table"), "1": TensorSpec((4,), "table")}
    assert len(list(layers)) == 2


def test_a_layer_is_listed_once() -> None:
    module, layer = Module(), Table(3)
    assert module.add("a", layer) is layer
    with pytest.raises(ValueError, match="listed twice: as 'a' and as 'b'"):
        module.add("b", layer)


def test_a_name_is_given_once() -> None:
    module = Module()
    module.add("a", Table(3))
    with pytest.raises(ValueError, match="listed twice: as 'a' and as 'a'"):
        module.add("a", Table(3))


@pytest.mark.parametrize(
    "layers",
    [
        (("a", Linear(2, 2)), ("a.weight", Table(3))),
        (("", Linear(2, 2)), ("", LayerNorm(2, 1e-6))),
    ],
)
def test_a_tensor_belongs_to_one_layer(layers: tuple[tuple[str, Layer], ...]) -> None:
    module = Module()
    for name, layer in layers:
        module.add(name, layer)
    with pytest.raises(ValueError, match=r"two layers have a tensor '(a\.)?weight'"):
        module.specs()


@pytest.mark.parametrize("parts", [{}, {"a": Linear(3, 2), "b": Linear(4, 2)}])
def test_fused_layers_have_the_same_inputs(parts: dict[str, Linear]) -> None:
    with pytest.raises(ValueError, match="same number of inputs"):
        FusedLinear(parts)


def test_a_fused_layer_is_its_parts_side_by_side() -> None:
    fused = FusedLinear({"a": Linear(DIM, 3), "b": Linear(DIM, 4, bias=False)})
    tensors = dict(Recorded(fused.specs()))
    fused.bind(EXACT, TensorScope(tensors))
    x, out = RNG.standard_normal((5, DIM)).astype(np.float32), np.empty((5, 7), np.float32)
    fused(x, out)
    for name, bias, columns in (("a", True, slice(0, 3)), ("b", False, slice(3, 7))):
        part = Linear(DIM, columns.stop - columns.start, bias)
        part.bind(EXACT, TensorScope(tensors, name))
        alone = np.empty((5, part.out_features), np.float32)
        part(x, alone)
        assert np.array_equal(out[:, columns], alone)


def test_the_first_rows_are_those_of_all_rows() -> None:
    whole, first = plain_block(BLOCK), plain_block(BLOCK, first_row_only=True)
    tensors = dict(Recorded(whole.specs()))
    for block in (whole, first):
        block.bind(EXACT, TensorScope(tensors))
    x = RNG.standard_normal((3 * 4, DIM)).astype(np.float32)
    every = whole(x.copy(), Workspace(), sequences=3)
    assert every.shape == (12, DIM)
    np.testing.assert_allclose(first(x.copy(), Workspace(), sequences=3), every[::4], rtol=0, atol=1e-5)


def test_a_block_runs_what_it_is_given() -> None:
    """An attention of any kind will do: here one over time, which leaves first rows as they are."""
    attention, mlp = TimeAttention(ATTENTION, BLOCK.norm(), cls_tokens=1), Mlp(BLOCK.norm(), DIM, 20, "gelu")
    block = Block(attention, mlp)
    bound(block)
    x = RNG.standard_normal((3 * 4, DIM)).astype(np.float32)
    attended = attention(x.copy(), Workspace(), sequences=3)
    assert np.array_equal(attended[::4], x[::4]) and not np.array_equal(attended, x)
    expected = mlp(attended, Workspace())
    assert np.array_equal(block(x.copy(), Workspace(), sequences=3), expected)


def test_what_turns_heads_sees_queries_and_keys() -> None:
    seen: list[tuple[int, ...]] = []
    attention = SelfAttention(ATTENTION, BLOCK.norm(), rotate=lambda x: seen.append(x.shape))
    bound(attention)
    attention(np.zeros((8, DIM), np.float32), Workspace(), sequences=2)
    assert seen == [(2, 4, HEADS, DIM // HEADS)] * 2


def test_a_table_is_computed_when_the_weights_come() -> None:
    calls: list[int] = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.ones((2, 3), np.float32)

    table = ComputedTable(compute)
    assert table.specs() == {} and not calls
    bound(table)
    assert np.array_equal(table.values, np.ones((2, 3))) and table.nbytes == 24


def test_names_are_joined_where_there_are_any() -> None:
    assert join_names("", "a", "", "b.c") == "a.b.c"
    assert join_names("", "") == ""


@pytest.mark.parametrize(
    "config",
    [
        VivitConfig(400),
        VivitFactorisedEncoderConfig(400),
        VivitFactorisedAttentionConfig(400),
        VideoMaeConfig(400),
        TimesformerConfig(400),
        Vjepa2Config(174),
        VideoSwinConfig(400),
        TrecvitConfig(400),
    ],
    ids=lambda config: type(config).__name__,
)
def test_listing_a_published_model_takes_no_memory(config) -> None:
    """A config is read before anything is checked against the file: it must not cost what the model does."""
    tracemalloc.start()
    specs = config.tensor_specs()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
    assert sum(int(np.prod(spec.shape)) for spec in specs.values()) > 1e7
