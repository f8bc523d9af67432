"""What a vision-language-action model has in Linen: a decoder of two experts, and a vision
transformer. Both scan over their blocks, and those of the decoder are rematerialised."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

UNIFORM = nn.initializers.lecun_uniform()  # quicker to compile than what is normal


@dataclasses.dataclass(frozen=True)
class Expert:
    """The sizes of one expert; a rank above zero gives its projections a low-rank pair."""

    width: int
    hidden: int
    rank: int = 0


@dataclasses.dataclass(frozen=True)
class Sizes:
    experts: tuple[Expert, ...] = (Expert(16, 24, rank=2), Expert(8, 12))
    depth: int = 2
    heads: int = 2
    head_width: int = 4
    vocabulary: int = 11
    image: int = 8
    patch: int = 4
    vision_width: int = 12
    horizon: int = 3
    action: int = 4
    dropout: float = 0.1
    dtype: str = "bfloat16"


class Projection(nn.Module):
    """A dense layer without bias, to which a low-rank pair may be added."""

    features: int
    rank: int = 0

    @nn.compact
    def __call__(self, x):
        inputs = x.shape[-1]
        kernel = self.param("kernel", UNIFORM, (inputs, self.features))
        y = x @ kernel.astype(x.dtype)
        if self.rank:
            small = nn.initializers.uniform(0.1)
            down = self.param("lora_down", small, (inputs, self.rank))
            up = self.param("lora_up", small, (self.rank, self.features))
            y += x @ down.astype(x.dtype) @ up.astype(x.dtype)
        return y


class Norm(nn.Module):
    """An RMS norm, and a gate. A condition, if there is one, gives the scale, a shift and the gate;
    else the scale is a parameter."""

    @nn.compact
    def __call__(self, x, condition):
        wide = x.astype(jnp.float32)
        wide *= jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-6)
        if condition is None:
            scale = self.param("scale", nn.initializers.zeros_init(), (x.shape[-1],))
            return (wide * (1 + scale.astype(jnp.float32))).astype(x.dtype), None
        modulation = nn.Dense(3 * x.shape[-1], kernel_init=UNIFORM)
        scale, shift, gate = jnp.split(modulation(condition)[:, None], 3, axis=-1)
        return (wide * (1 + scale) + shift).astype(x.dtype), gate.astype(x.dtype)


def gated_sum(x, y, gate):
    return x + (y if gate is None else y * gate)


def rotated(x, positions):
    """Turns pairs of features by angles that grow with the position."""
    half = x.shape[-1] // 2
    angles = positions[..., None] / 100.0 ** (jnp.arange(half) / half)
    sine, cosine = (f(angles)[:, :, None].astype(x.dtype) for f in (jnp.sin, jnp.cos))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1)


class JointAttention(nn.Module):
    """Attention over the tokens of all experts, after those of a cache. Heads share keys."""

    sizes: Sizes

    @nn.compact
    def __call__(self, streams, cache, positions, mask):
        heads, width = self.sizes.heads, self.sizes.head_width
        present = [
            (i, expert, x)
            for i, (expert, x) in enumerate(zip(self.sizes.experts, streams, strict=True))
            if x is not None
        ]
        projected = [
            Projection((heads + 2) * width, expert.rank, name=f"inputs_{i}")(x)
            for i, expert, x in present
        ]
        joint = jnp.concatenate(projected, axis=1)
        joint = joint.reshape(*joint.shape[:2], heads + 2, width)
        queries = rotated(joint[:, :, :heads], positions)
        keys, values = rotated(joint[:, :, heads:-1], positions)[:, :, 0], joint[:, :, -1]
        if cache is not None:
            keys, values = (
                jnp.concatenate(parts, axis=1) for parts in zip(cache, (keys, values), strict=True)
            )
        scores = jnp.einsum("bthd,bsd->bhts", queries, keys).astype(jnp.float32) / width**0.5
        weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e30), -1).astype(values.dtype)
        mixed = jnp.einsum("bhts,bsd->bthd", weights, values)
        mixed = mixed.reshape(*mixed.shape[:2], heads * width)
        outputs, start = [None] * len(streams), 0
        for i, expert, x in present:
            tokens = mixed[:, start : start + x.shape[1]]
            outputs[i] = Projection(expert.width, expert.rank, name=f"outputs_{i}")(tokens)
            start += x.shape[1]
        return outputs, (keys, values)


class FeedForward(nn.Module):
    expert: Expert

    @nn.compact
    def __call__(self, x):
        gate, y = jnp.split(
            Projection(2 * self.expert.hidden, self.expert.rank, name="up")(x), 2, -1
        )
        return Projection(self.expert.width, self.expert.rank, name="down")(nn.gelu(gate) * y)


class Block(nn.Module):
    sizes: Sizes

    @nn.compact
    def __call__(self, streams, cache, positions, mask, conditions, deterministic):
        dropout = nn.Dropout(self.sizes.dropout, deterministic=deterministic)

        def residual(part, streams, layer):
            """The streams, with what the layer makes of their norms; and what else it returns."""
            normed, gates = [None] * len(streams), [None] * len(streams)
            for i, (x, condition) in enumerate(zip(streams, conditions, strict=True)):
                if x is not None:
                    normed[i], gates[i] = Norm(name=f"{part}_norm_{i}")(x, condition)
            outputs, rest = layer(normed)
            triples = zip(streams, outputs, gates, strict=True)
            return [None if x is None else gated_sum(x, y, gate) for x, y, gate in triples], rest

        def attention(streams):
            layer = JointAttention(self.sizes, name="attention")
            return layer(streams, cache, positions, mask)

        def forward(streams):
            pairs = enumerate(zip(self.sizes.experts, streams, strict=True))
            return [
                None if x is None else dropout(FeedForward(expert, name=f"forward_{i}")(x))
                for i, (expert, x) in pairs
            ], None

        streams, cache_with_these = residual("attention", streams, attention)
        streams, _ = residual("forward", streams, forward)
        return streams, cache_with_these


class Decoder(nn.Module):
    """The blocks of all experts, one after the other by a scan, and the table of the words."""

    sizes: Sizes

    def setup(self):
        sizes = self.sizes
        table = nn.initializers.uniform(2.0)
        self.words = nn.Embed(sizes.vocabulary, sizes.experts[0].width, embedding_init=table)
        block = nn.remat(Block, prevent_cse=False, static_argnums=(6,))  # counted from self
        self.blocks = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=sizes.depth,
        )(sizes)
        self.last_norms = [Norm(name=f"last_norm_{i}") for i, _ in enumerate(sizes.experts)]

    def embed(self, tokens):
        return self.words(tokens).astype(self.sizes.dtype)

    def __call__(self, streams, positions, mask, conditions, cache=None, deterministic=True):
        """The new tokens of each expert, and the keys and values of all tokens up to these.

        An expert without tokens has None for them. The mask says which of the tokens, those of the
        cache before the new ones, each new token attends to.
        """
        streams = [None if x is None else x.astype(self.sizes.dtype) for x in streams]
        streams, cache = self.blocks(streams, cache, positions, mask, conditions, deterministic)
        triples = zip(self.last_norms, streams, conditions, strict=True)
        return [None if x is None else norm(x, c)[0] for norm, x, c in triples], cache

    def init(self, flags):
        """Makes the parameters of every expert, with conditions for those with a flag."""
        widths = [expert.width for expert in self.sizes.experts]
        self.embed(jnp.zeros((1, 1), jnp.int32))
        self(
            [jnp.zeros((1, 1, width)) for width in widths],
            jnp.zeros((1, len(widths)), jnp.int32),
            jnp.ones((1, len(widths), len(widths)), bool),
            [jnp.zeros((1, w)) if flag else None for w, flag in zip(widths, flags, strict=True)],
        )


class VisionBlock(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x, train):
        y = nn.LayerNorm(use_bias=False)(x)
        x += nn.MultiHeadDotProductAttention(
            self.heads, deterministic=not train, use_bias=False, kernel_init=UNIFORM
        )(y, y)
        y = nn.gelu(Projection(2 * x.shape[-1])(nn.LayerNorm(use_bias=False)(x)))
        return x + Projection(x.shape[-1])(y), None


class VisionTransformer(nn.Module):
    sizes: Sizes

    @nn.compact
    def __call__(self, image, *, train):
        sizes = self.sizes
        patch = (sizes.patch, sizes.patch)
        x = nn.Conv(
            sizes.vision_width,
            patch,
            strides=patch,
            padding="VALID",
            kernel_init=UNIFORM,
            name="patches",
        )(image)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x += self.param("positions", nn.initializers.uniform(0.1), (1, *x.shape[1:]))
        blocks = nn.scan(
            VisionBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=sizes.depth,
        )
        x, _ = blocks(sizes.heads, name="blocks")(x, train)
        return nn.Dense(sizes.experts[0].width, kernel_init=UNIFORM, name="head")(
            nn.LayerNorm(name="last_norm")(x)
        )
