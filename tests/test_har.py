"""The generator, its sampling and its guidance, each against something simpler."""

import math
from itertools import accumulate

import pytest
import torch
from conftest import make_har

from restok_cli.errors import UsageError
from restok_cli.model.config import HarConfig, check_num_steps
from restok_cli.model.guidance import GUIDANCE_SCHEDULES, guidance_scale
from restok_cli.model.har import ClassEmbedding, Har, KVCache
from restok_cli.model.levels import step_lengths, step_sizes
from restok_cli.model.sampling import SamplingOptions, draw, sample, sample_steps, seeded_uniforms

LENGTH, VOCABULARY, CLASSES = 32, 40, 5
GREEDY = SamplingOptions(temperature=0)


@pytest.fixture(params=[1, 2, 4, 8, 16, LENGTH], ids=lambda a: f"A={a}")
def har(request) -> Har:
    return make_har(small_config(request.param))


def small_config(num_sequential_codes: int, num_classes: int = CLASSES) -> HarConfig:
    return HarConfig(
        codebook_size=VOCABULARY,
        num_codes=LENGTH,
        num_sequential_codes=num_sequential_codes,
        num_classes=num_classes,
        width=32,
        num_layers=2,
        num_heads=2,
    )


def test_input_sequence_is_that_of_the_paper():
    """[class, c0, c1, c2,  c3, q0, q1, q2,  c4 … c7, q3 … q6,  c8 … c15, q7 … q14,  …]"""
    har = make_har(small_config(4))
    codes = torch.arange(LENGTH)[None]
    inputs = har.embed_inputs(torch.tensor([2]), codes, 0, LENGTH)[0]
    c = list(har.code_embedding.weight)
    q = list(har.query_embedding)
    expected = [har.class_embedding.weight[2], *c[:3], c[3], *q[:3], *c[4:8], *q[3:7], *c[8:16], *q[7:15]]
    assert torch.equal(inputs, torch.stack(expected))


def test_every_query_is_used_once(har):
    if har.config.is_har:
        inputs = har.embed_inputs(torch.tensor([0]), torch.zeros(1, LENGTH, dtype=torch.int64), 0, LENGTH)[0]
        used = [(inputs == query).all(-1).sum().item() for query in har.query_embedding]
        assert used == [1] * (LENGTH // 2 - 1)


@torch.inference_mode()
def test_logits_see_no_code_of_their_own_step_or_later(har):
    codes = torch.randint(VOCABULARY, (1, LENGTH))
    class_ids = torch.tensor([1])
    logits = har(class_ids, codes)
    start = 0
    for block in step_sizes(LENGTH, har.config.num_sequential_codes):
        changed = codes.clone()
        changed[:, start:] = (changed[:, start:] + 1) % VOCABULARY
        assert torch.allclose(har(class_ids, changed)[:, : start + block], logits[:, : start + block], atol=1e-5)
        start += block
        if start < LENGTH:
            assert not torch.allclose(har(class_ids, changed)[:, start:], logits[:, start:], atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3])
@torch.inference_mode()
def test_logits_of_cached_steps_equal_those_of_the_full_forward(har, batch_size):
    class_ids, codes = torch.arange(batch_size), torch.randint(VOCABULARY, (batch_size, LENGTH))
    cache = KVCache(har.config, batch_size, torch.device("cpu"), torch.float32)
    logits, start = [], 0
    for size in step_sizes(LENGTH, har.config.num_sequential_codes):
        logits.append(har.step(class_ids, codes[:, :start], cache, start, start + size))
        start += size
    assert torch.allclose(torch.cat(logits, 1), har(class_ids, codes), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("schedule", ["constant", "step", "rectangular"])
@torch.inference_mode()
def test_cached_sampling_matches_full_forward(har, batch_size, schedule):
    """Greedy codes are the argmax of guided teacher-forced logits on those codes, also where guidance starts late."""
    class_ids = torch.arange(batch_size)
    options = SamplingOptions(cfg_scale=2.5, cfg_schedule=schedule, temperature=0)
    codes = sample(har, class_ids, torch.zeros(batch_size, LENGTH), options)
    conditional = har(class_ids, codes)
    unconditional = har(torch.full_like(class_ids, har.class_embedding.null_class), codes)
    blocks = step_sizes(LENGTH, har.config.num_sequential_codes)
    start = 0
    for step, block in enumerate(blocks):
        scale = guidance_scale(options, step / (len(blocks) - 1))
        part = slice(start, start + block)
        logits = unconditional[:, part] + scale * (conditional[:, part] - unconditional[:, part])
        assert torch.equal(logits.argmax(-1), codes[:, part])
        start += block


def test_guidance_of_one_equals_plain_conditional_sampling(har):
    class_ids, uniforms = torch.tensor([0, 3]), seeded_uniforms(0, 0, 2, LENGTH)
    plain = sample(har, class_ids, uniforms, SamplingOptions())
    for schedule in GUIDANCE_SCHEDULES:
        assert torch.equal(sample(har, class_ids, uniforms, SamplingOptions(cfg_schedule=schedule)), plain)


def test_classes_are_dropped_where_the_numbers_lie_below_the_rate():
    embedding = ClassEmbedding(5, 8, dropout=0.3)
    dropped = embedding.drop(torch.arange(5), torch.tensor([0.0, 0.29, 0.3, 0.9, 0.1]))
    assert dropped.tolist() == [5, 5, 2, 3, 5]
    assert embedding(dropped).shape == (5, 8) and list(embedding.state_dict()) == ["weight"]


def test_guidance_of_zero_equals_sampling_the_null_class(har):
    uniforms = seeded_uniforms(0, 0, 2, LENGTH)
    unconditional = sample(har, torch.full((2,), CLASSES), uniforms, SamplingOptions())
    assert torch.equal(sample(har, torch.tensor([0, 3]), uniforms, SamplingOptions(cfg_scale=0)), unconditional)


def test_an_unconditional_model_ignores_guidance():
    har = make_har(small_config(4, num_classes=0))
    class_ids, uniforms = torch.zeros(2, dtype=torch.int64), seeded_uniforms(0, 0, 2, LENGTH)
    guided = sample(har, class_ids, uniforms, SamplingOptions(cfg_scale=3))
    assert torch.equal(guided, sample(har, class_ids, uniforms, SamplingOptions()))


def test_fewer_steps_give_a_prefix_of_the_same_codes(har):
    class_ids, uniforms = torch.tensor([0, 3]), seeded_uniforms(0, 0, 2, LENGTH)
    options = SamplingOptions(cfg_scale=2, cfg_schedule="cosine")
    codes = sample(har, class_ids, uniforms, options)
    lengths = step_lengths(LENGTH, har.config.num_sequential_codes)
    for steps, length in enumerate(lengths, start=1):
        assert torch.equal(sample(har, class_ids, uniforms, options, steps), codes[:, :length])
    growing = list(sample_steps(har, class_ids, uniforms, options))
    assert [part.shape[1] for part in growing] == list(lengths)


def test_impossible_steps_are_refused_with_the_possible_ones():
    with pytest.raises(UsageError, match=r"--steps 8: this model takes 1 to 7 steps"):
        check_num_steps(small_config(4), 8)
    assert check_num_steps(small_config(4), None) == 7
    assert check_num_steps(HarConfig(), 9) == 9


def test_codes_of_a_picture_do_not_depend_on_the_batch(har):
    class_ids, uniforms = torch.tensor([0, 3, 1, 1]), seeded_uniforms(7, 0, 4, LENGTH)
    together = sample(har, class_ids, uniforms, SamplingOptions(cfg_scale=1.5, top_p=0.9))
    for i in range(4):
        one = seeded_uniforms(7, i, 1, LENGTH)
        alone = sample(har, class_ids[i : i + 1], one, SamplingOptions(cfg_scale=1.5, top_p=0.9))
        assert torch.equal(alone[0], together[i])


def test_uniforms_differ_by_seed_and_picture():
    rows = torch.cat([seeded_uniforms(seed, 0, 3, LENGTH) for seed in (0, 1, 2)])
    assert len(rows.unique(dim=0)) == 9
    assert rows.min() >= 0 and rows.max() < 1


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [3, 3, 3, 3, 3]),
        ("linear", [1, 1.5, 2, 2.5, 3]),
        ("linear-reversed", [3, 2.5, 2, 1.5, 1]),
        ("linear-constant", [1, 2, 3, 3, 3]),
        ("triangular", [1, 2, 3, 2, 1]),
        ("rectangular", [1, 3, 3, 3, 1]),
        ("step", [1, 3, 3, 3, 3]),
        ("cosine", [1, 2 - math.sqrt(0.5), 2, 2 + math.sqrt(0.5), 3]),
        ("cosine-reversed", [3, 2 + math.sqrt(0.5), 2, 2 - math.sqrt(0.5), 1]),
    ],
)
def test_guidance_schedules(schedule, expected):
    options = SamplingOptions(cfg_scale=3, cfg_schedule=schedule, cfg_start=0.25, cfg_stop=0.8, cfg_peak=0.5)
    scales = [guidance_scale(options, ratio) for ratio in (0, 0.25, 0.5, 0.75, 1)]
    assert scales == pytest.approx(expected)


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.5, 2.0, -1.0, 1.0]).expand(1, 20000, 4)
    uniforms = torch.rand(1, 20000, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 0.5):
        codes = draw(logits, uniforms, SamplingOptions(temperature=temperature))
        shares = codes.flatten().bincount(minlength=4) / 20000
        assert torch.allclose(shares, (logits[0, 0] / temperature).softmax(-1), atol=0.015)


def test_top_k_and_top_p_cut_the_unlikely_codes():
    logits = torch.tensor([0.1, 0.5, 0.15, 0.25]).log().expand(1, 5000, 4)
    uniforms = torch.rand(1, 5000, generator=torch.Generator().manual_seed(0))
    assert set(draw(logits, uniforms, SamplingOptions(top_k=2)).flatten().tolist()) == {1, 3}
    assert set(draw(logits, uniforms, SamplingOptions(top_p=0.8)).flatten().tolist()) == {1, 2, 3}
    assert set(draw(logits, uniforms, SamplingOptions(top_p=0.0)).flatten().tolist()) == {1}
    assert set(draw(logits, uniforms, SamplingOptions(temperature=0)).flatten().tolist()) == {1}
    kept = draw(logits, uniforms, SamplingOptions(top_k=2)).flatten().bincount(minlength=4) / 5000
    assert kept[1].item() == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize("cut", [{}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 6, "top_p": 0.8}], ids=str)
def test_each_draw_is_that_of_a_loop_over_the_codes(cut):
    """In the order of the codes, or where there are cuts from the likeliest on; of equals the lower comes first."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 50, 9, generator=generator).round(decimals=1)
    logits[0, :, ::3], logits[0, :, 4] = -math.inf, 0.5
    uniforms = torch.rand(2, 50, generator=generator)
    options = SamplingOptions(temperature=0.8, **cut)
    codes = draw(logits, uniforms, options)
    for row, uniform, code in zip(logits.flatten(0, 1), uniforms.flatten(), codes.flatten(), strict=True):
        order = sorted(range(9), key=lambda c: -row[c].item()) if cut else range(9)
        kept = {c: math.exp(row[c].item() / 0.8) for c in list(order)[: options.top_k or 9]}
        total, reached, chosen = sum(kept.values()), 0.0, {}
        for c, weight in kept.items():
            if reached < options.top_p * total:
                chosen[c] = weight
            reached += weight
        point = uniform.item() * sum(chosen.values())
        before = accumulate(chosen.values(), initial=0.0)
        assert code == [c for c, start in zip(chosen, before, strict=False) if start <= point][-1]


@pytest.mark.parametrize("cut", [{}, {"top_k": 4}, {"top_p": 0.99}], ids=str)
def test_the_largest_uniform_number_draws_a_possible_code(cut):
    logits = torch.randn(1, 5000, 4, generator=torch.Generator().manual_seed(0))
    logits[..., 2:] = -math.inf
    almost_one = torch.full((1, 5000), 1 - 2**-24)
    assert draw(logits, almost_one, SamplingOptions(**cut)).max() == 1


def test_a_new_generator_starts_from_even_odds():
    logits = Har(small_config(4)).eval()(torch.tensor([0]), torch.zeros(1, LENGTH, dtype=torch.int64))
    assert torch.equal(logits, torch.zeros(1, LENGTH, VOCABULARY))
