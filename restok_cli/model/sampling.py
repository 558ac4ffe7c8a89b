"""Drawing codes from a HAR or AR generator, with classifier-free guidance (docs/algorithm.md section 3, sampling).

It knows no codebook and keeps nothing: randomness comes in as an argument, one uniform number per code, so that an
image's codes depend on its own numbers alone.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from restok_cli.model.config import HarConfig, check_num_steps
from restok_cli.model.guidance import SamplingOptions, guidance_scale
from restok_cli.model.har import Har, KVCache
from restok_cli.model.levels import step_sizes


def draw(logits: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
    """Codes (B, T) from logits (B, T, V): temperature, top-k, top-p, then the inverse of the cumulative distribution.

    `uniforms` (B, T) in [0, 1) decide; an image's codes do not depend on its neighbours in the batch. Where logits are
    NaN or too large for float32, the code is -1.
    """
    if options.temperature > 0:
        logits = logits.float() / options.temperature
    # no `where`: it may copy its number to the device, which a CUDA graph cannot hold
    return choose(logits, uniforms, options).masked_fill(~logits.amax(-1).isfinite(), -1)


def choose(logits: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
    """As `draw` does, from logits that have been divided by the temperature and are finite or minus infinity."""
    if options.temperature == 0:
        return logits.argmax(-1)
    if options.top_k == 0 and options.top_p >= 1:
        return pick(logits, uniforms)
    # Sorted from likely to unlikely, both cuts keep a prefix.
    logits, order = logits.sort(dim=-1, descending=True, stable=True)
    if options.top_k:
        logits[..., options.top_k :] = -math.inf
    return order.gather(-1, pick(logits, uniforms, options.top_p)[..., None]).squeeze(-1)


def pick(logits: Tensor, uniforms: Tensor, top_p: float = math.inf) -> Tensor:
    """The first places (B, T) in logits (B, T, V) at which the cumulative probability exceeds `uniforms` · mass.

    The mass is that of the shortest prefix that reaches `top_p`, or of all where none does.
    """
    cumulative = logits.softmax(-1).cumsum(-1)
    last = (cumulative < cumulative[..., -1:].clamp(max=top_p)).sum(-1, keepdim=True)  # never one of probability 0
    mass = cumulative.gather(-1, last)
    return torch.searchsorted(cumulative, uniforms[..., None] * mass, right=True).minimum(last).squeeze(-1)


@torch.inference_mode()
def sample(
    har: Har,
    class_ids: Tensor,
    uniforms: Tensor,
    options: SamplingOptions,
    num_steps: int | None = None,
    cache: KVCache | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """Draw the codes of a batch: (B, n), n = all L codes, or the prefix that `num_steps` steps give.

    class_ids (B,) on the model's device; uniforms (B, L) in [0, 1). `cache`, of `sampling_cache`, spares making one
    for every batch. `kept` (k,) are the first codes of every image, in place of drawn ones. Raises UsageError for
    impossible steps. Codes of an image of which one cannot be drawn are -1, all of them.
    """
    codes = class_ids.new_zeros(len(class_ids), 0)
    for codes in sample_steps(har, class_ids, uniforms, options, num_steps, cache, kept):  # noqa: B007 (the last is the result)
        pass
    return codes


@torch.inference_mode()
def sample_steps(
    har: Har,
    class_ids: Tensor,
    uniforms: Tensor,
    options: SamplingOptions,
    num_steps: int | None = None,
    cache: KVCache | None = None,
    kept: Tensor | None = None,
) -> Iterator[Tensor]:
    """Draw as `sample` does, and yield the codes so far after every step: (B, 1), (B, 2), …"""
    config, batch = har.config, len(class_ids)
    sizes = step_sizes(config.num_codes, config.num_sequential_codes)
    num_steps = check_num_steps(config, num_steps)
    guided = is_guided(config, options)
    cache = sampling_cache(har, options, batch) if cache is None else cache
    null_ids = torch.full_like(class_ids, har.class_embedding.null_class)
    both_ids = torch.cat([class_ids, null_ids])
    codes = class_ids.new_zeros(batch, config.num_codes)
    possible = torch.ones_like(class_ids, dtype=torch.bool)
    unguided_stop = 0  # positions that the unconditional half of the cache holds

    start = 0
    for step, size in enumerate(sizes[:num_steps]):
        stop = start + size
        ratio = step / (len(sizes) - 1) if len(sizes) > 1 else 1.0
        scale = guidance_scale(options, ratio) if guided else 1.0
        if scale == 1:
            logits = har.step(class_ids, codes, cache.rows(0, batch), start, stop)
        else:
            if unguided_stop < start:  # the steps before had no use for unconditional logits: catch up on all at once
                har.fill(null_ids, codes, cache.rows(batch, 2 * batch), unguided_stop, start)
            logits = har.step(both_ids, codes.repeat(2, 1), cache.rows(0, 2 * batch), start, stop)
            # in float32: in 16 bits guidance would multiply the rounding of the logits
            conditional, unconditional = logits.float().split(batch)
            logits = (conditional - unconditional).mul_(scale).add_(unconditional)
            unguided_stop = stop
        drawn = draw(logits, uniforms[:, start:stop], options)
        possible = possible & (drawn >= 0).all(1)
        codes[:, start:stop] = drawn.clamp(min=0)
        if kept is not None:
            codes[:, start : min(stop, len(kept))] = kept[start:stop]
        start = stop
        yield codes[:, :stop].masked_fill(~possible[:, None], -1)


def is_guided(config: HarConfig, options: SamplingOptions) -> bool:
    """Whether any step needs the logits without a class beside those with it."""
    return options.cfg_scale != 1 and config.num_classes > 0


def sampling_cache(har: Har, options: SamplingOptions, batch_size: int) -> KVCache:
    """Room for the keys and values of up to `batch_size` images, twice where they are guided."""
    rows = 2 * batch_size if is_guided(har.config, options) else batch_size
    return KVCache(har.config, rows, har.class_embedding.weight.device, har.class_embedding.weight.dtype)


def seeded_uniforms(seed: int, first: int, count: int, length: int) -> Tensor:
    """(count, length) uniform numbers in [0, 1) for images first, first + 1, …: row i depends on (seed, i) alone."""
    rows = []
    for index in range(first, first + count):
        rng = torch.Generator().manual_seed(seed * 0x9E3779B97F4A7C15 + index & 0x7FFFFFFFFFFFFFFF)
        rows.append(torch.rand(length, generator=rng))
    return torch.stack(rows)
