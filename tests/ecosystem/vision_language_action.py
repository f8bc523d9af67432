"""A vision-language-action model in NNX, whose large parts are modules of Linen in a ToNNX.

An image and a prompt are the prefix, which a wide expert reads; a state and noisy actions are the
suffix, which a narrow expert reads. The experts have weights of their own and attend jointly. The
model learns the flow from actions, at time 0, to noise, at time 1.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from vision_language import UNIFORM, Decoder, VisionTransformer


def waves(time, width):
    """Sines and cosines of a time between 0 and 1, of growing periods."""
    angles = time[:, None] * 2 * jnp.pi / jnp.geomspace(0.05, 4.0, width // 2)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def mask_of(queries, keys):
    """Who attends to whom: a token to those of its own group and of the groups before."""
    return queries[:, :, None] >= keys[:, None]


def positions_of(groups):
    return jnp.broadcast_to(jnp.arange(groups.shape[1]), groups.shape)


class Backbone(nnx.Module):
    """The modules of Linen, one level down."""

    def __init__(self, language, vision):
        self.language = language
        self.vision = vision


class Policy(nnx.Module):
    """Actions for what a robot sees, is told, and senses of itself."""

    def __init__(self, bridge, sizes, *, rngs):
        width = sizes.experts[1].width
        language = bridge.ToNNX(Decoder(sizes))
        language.lazy_init(rngs=rngs, method="init", flags=[False, True])
        vision = bridge.ToNNX(VisionTransformer(sizes))
        vision.lazy_init(jnp.zeros((1, sizes.image, sizes.image, 3)), train=False, rngs=rngs)
        self.backbone = Backbone(language, vision)
        linear = functools.partial(nnx.Linear, kernel_init=UNIFORM, rngs=rngs)
        self.state_in = linear(sizes.action, width)
        self.action_in = linear(sizes.action, width)
        self.time_in = linear(width, width)
        self.time_mix = linear(width, width)
        self.action_out = linear(width, sizes.action)
        self.sizes = sizes
        self.deterministic = True  # what train() and eval() set

    def prefix(self, observation):
        """Tokens of the image and the prompt, and their group."""
        image = self.backbone.vision(observation["image"], train=not self.deterministic)
        words = self.backbone.language(observation["prompt"], method="embed")
        tokens = jnp.concatenate([image.astype(words.dtype), words], axis=1)
        return tokens, jnp.zeros(tokens.shape[:2], jnp.int32)

    def suffix(self, observation, noisy, time):
        """Tokens of the state and the actions, their groups, and the condition of the norms."""
        state, actions = self.state_in(observation["state"])[:, None], self.action_in(noisy)
        tokens = jnp.concatenate([state, actions], axis=1)
        condition = nnx.swish(self.time_in(waves(time, tokens.shape[-1])))
        groups = jnp.minimum(jnp.arange(tokens.shape[1]), 1) + 1
        groups = jnp.broadcast_to(groups, tokens.shape[:2])
        return tokens, groups, nnx.swish(self.time_mix(condition))

    def loss(self, key, observation, actions):
        """How far the flow is from the straight one, at a random time of each example."""
        noise_key, time_key, dropout_key = jax.random.split(key, 3)
        noise = jax.random.normal(noise_key, actions.shape)
        time = jax.random.uniform(time_key, actions.shape[:1])
        noisy = actions + time[:, None, None] * (noise - actions)

        prefix, prefix_groups = self.prefix(observation)
        suffix, suffix_groups, condition = self.suffix(observation, noisy, time)
        groups = jnp.concatenate([prefix_groups, suffix_groups], axis=1)
        (_, outputs), _ = self.backbone.language(
            [prefix, suffix],
            positions_of(groups),
            mask_of(groups, groups),
            [None, condition],
            deterministic=self.deterministic,
            rngs=None if self.deterministic else nnx.Rngs(dropout=dropout_key),
        )
        return jnp.mean((self.flow(outputs) - (noise - actions)) ** 2)

    def flow(self, outputs):
        return self.action_out(outputs[:, 1:].astype(jnp.float32))

    def sample(self, key, observation, steps):
        """Actions, from noise along the flow in some steps. The prefix is read once."""
        prefix, prefix_groups = self.prefix(observation)
        mask = mask_of(prefix_groups, prefix_groups)
        positions = positions_of(prefix_groups)
        _, cache = self.backbone.language([prefix, None], positions, mask, [None, None])

        def step(carry):
            actions, time = carry
            times = jnp.full(actions.shape[:1], time)
            suffix, suffix_groups, condition = self.suffix(observation, actions, times)
            groups = jnp.concatenate([prefix_groups, suffix_groups], axis=1)
            (_, outputs), _ = self.backbone.language(
                [None, suffix],
                positions_of(groups)[:, prefix.shape[1] :],
                mask_of(suffix_groups, groups),
                [None, condition],
                cache,
            )
            return actions - self.flow(outputs) / steps, time - 1 / steps

        def goes_on(carry):
            return carry[1] > 0.5 / steps

        shape = (prefix.shape[0], self.sizes.horizon, self.sizes.action)
        start = jax.random.normal(key, shape), jnp.float32(1)
        return jax.lax.while_loop(goes_on, step, start)[0]
