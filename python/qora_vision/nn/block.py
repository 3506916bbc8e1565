"""Transformer blocks, which consist of an attention and an MLP, and stacks of blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qora_vision.engine.ops import Activation, FloatArray
from qora_vision.nn.attention import AttentionConfig, SelfAttention
from qora_vision.nn.layer import Branch, LayerList
from qora_vision.nn.mlp import Mlp
from qora_vision.nn.norm import LayerNorm
from qora_vision.nn.workspace import Workspace


@dataclass(frozen=True)
class BlockConfig:
    """Shape of a pre-norm transformer block (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words").

    `biased` names those of q, k and v that have a bias.
    """

    embed_dim: int
    num_heads: int
    mlp_dim: int
    activation: Activation
    norm_eps: float
    biased: str = "qkv"

    @property
    def attention(self) -> AttentionConfig:
        """Shape of its attention."""
        return AttentionConfig(self.embed_dim, self.num_heads, self.biased)

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.attention.head_dim

    def norm(self) -> LayerNorm:
        """Return a layer norm of its width."""
        return LayerNorm(self.embed_dim, self.norm_eps)

    def mlp(self) -> Mlp:
        """Return its MLP, with a layer norm."""
        return Mlp(self.norm(), self.embed_dim, self.mlp_dim, self.activation)


class Block(Branch):
    """An attention, then an MLP. Each contains its norm and adds its result to x."""

    def __init__(self, attention: Branch, mlp: Branch) -> None:
        super().__init__()
        self._attention = self.add("", attention)
        self._mlp = self.add("", mlp)

    def __call__(self, x: FloatArray, workspace: Workspace, sequences: int = 1) -> FloatArray:
        """See `Branch`: returns as many rows as the attention does."""
        return self._mlp(self._attention(x, workspace, sequences), workspace, sequences)


class Stack(LayerList[Block]):
    """Blocks that run one after the other."""

    def __call__(
        self, x: FloatArray, workspace: Workspace, report: Callable[[FloatArray], None], sequences: int = 1
    ) -> FloatArray:
        """Run all blocks on x, in place, and call `report` with the result of each; see `Branch`."""
        for block in self:
            x = block(x, workspace, sequences)
            report(x)
        return x


def plain_block(config: BlockConfig, first_row_only: bool = False) -> Block:
    """Return a block of `SelfAttention` and `Mlp`; `first_row_only` is that of `SelfAttention`."""
    return Block(SelfAttention(config.attention, config.norm(), first_row_only), config.mlp())


def plain_stack(config: BlockConfig, depth: int, first_row_only: bool = False) -> Stack:
    """Return `depth` plain blocks. With `first_row_only`, the last one computes only the first rows."""
    return Stack(plain_block(config, first_row_only and i == depth - 1) for i in range(depth))
