from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoresde import noise as noises
from scoresde.noise import SEED_LIMIT, Noise, check_seed, normal, philox

quick = settings(deadline=None, max_examples=40)
WORD = st.integers(0, 2**32 - 1)
SEED = st.integers(0, SEED_LIMIT - 1)


def words(values: list[int] | tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([value], dtype=torch.int64) for value in values)


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 from its definition: two multiplications of words into 64 bits, crossed over with the key."""
    for turn in range(10):
        k0, k1 = (key[0] + turn * 0x9E3779B9) % 2**32, (key[1] + turn * 0xBB67AE85) % 2**32
        high0, low0 = divmod(0xD2511F53 * counter[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [high1 ^ counter[1] ^ k0, low1, high0 ^ counter[3] ^ k1, low0]
    return counter


def plain_normal(seed: int, draw: int, position: int) -> float:
    block, place = divmod(position, 4)
    u = [(word + 0.5) / 2**32 for word in plain_philox([block, 0, draw, 0], [seed % 2**32, seed // 2**32])]
    first, second = u[place // 2 * 2], u[place // 2 * 2 + 1]
    wave = math.sin if place % 2 else math.cos
    return math.sqrt(-2 * math.log(first)) * wave(2 * math.pi * second)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_philox_gives_the_known_answers_of_its_authors(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    got = philox(words(counter), words(key))  # type: ignore[arg-type]
    assert tuple(int(word) for word in got) == expected


@quick
@given(st.lists(WORD, min_size=4, max_size=4), st.lists(WORD, min_size=2, max_size=2))
def test_philox_agrees_with_its_definition_on_whole_numbers(counter: list[int], key: list[int]) -> None:
    got = philox(words(counter), words(key))  # type: ignore[arg-type]
    assert [int(word) for word in got] == plain_philox(counter, key)


@quick
@given(SEED, WORD, st.integers(0, 4000))
def test_each_number_is_a_function_of_seed_draw_and_position_alone(seed: int, draw: int, position: int) -> None:
    got = normal(torch.tensor([3, seed]), draw, position + 1)[1, position]
    assert float(got) == pytest.approx(plain_normal(seed, draw, position), rel=1e-13, abs=1e-14)


@quick
@given(st.lists(SEED, min_size=1, max_size=6), st.integers(1, 50), st.integers(0, 50))
def test_a_smaller_sample_is_the_start_of_a_larger_one(seeds: list[int], size: int, more: int) -> None:
    keys = torch.tensor(seeds)
    assert torch.equal(normal(keys, 2, size), normal(keys, 2, size + more)[:, :size])


@quick
@given(st.lists(SEED, min_size=1, max_size=6), st.data())
def test_a_draw_does_not_depend_on_its_neighbours_in_the_batch(seeds: list[int], data: st.DataObject) -> None:
    order = data.draw(st.lists(st.sampled_from(range(len(seeds))), min_size=1, max_size=9))
    together, chosen = Noise(seeds, (3, 5), torch.float64), Noise([seeds[i] for i in order], (3, 5), torch.float64)
    for _ in range(3):
        assert torch.equal(together()[order], chosen())


def test_draws_come_in_order_and_can_be_addressed_by_number() -> None:
    noise = Noise([7, 2**40], (2, 3), torch.float64)
    drawn = [noise() for _ in range(3)]
    assert noise.draw == 3
    for number, values in enumerate(drawn):
        assert torch.equal(values, normal(torch.tensor([7, 2**40]), number, 6).view(2, 2, 3))
    noise.draw = 1
    assert torch.equal(noise(), drawn[1])


def test_draws_in_float32_are_the_rounded_draws_in_float64() -> None:
    assert torch.equal(Noise([1, 2], (9,), torch.float32)(), Noise([1, 2], (9,), torch.float64)().float())


@pytest.mark.parametrize("seeds", [range(64), [0] * 64, [2**32 * i for i in range(64)]], ids=["seeds", "draws", "high"])
def test_the_numbers_are_standard_normal(seeds: Any) -> None:
    noise = Noise(list(seeds), (4096,), torch.float64)
    if len(set(seeds)) == 1:  # one seed: its draws one after another
        values = torch.cat([normal(torch.tensor([0]), draw, 4096) for draw in range(64)])
    else:
        values = noise()
    sample = values.flatten().numpy()
    count = len(sample)
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = math.sqrt((stats.norm.moment(2 * power) - moment**2) / count)
        assert np.mean(sample**power) == pytest.approx(moment, abs=4 * spread), power
    for bound in (1.0, 2.0, 3.0, 4.0):
        expected = count * 2 * stats.norm.sf(bound)
        assert np.sum(np.abs(sample) > bound) == pytest.approx(expected, abs=4 * math.sqrt(expected))


@pytest.mark.parametrize("word", [0, 2**32 - 1])
def test_the_rarest_words_give_finite_numbers(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noises, "philox", lambda counter, key: (torch.full((1, 1), word),) * 4)
    u = (word + 0.5) / 2**32  # never 0 or 1: the tail ends at √(66 log 2) = 6.76
    expected = [math.sqrt(-2 * math.log(u)) * wave(2 * math.pi * u) for wave in (math.cos, math.sin)]
    assert normal(torch.tensor([0]), 0, 4)[0].tolist() == pytest.approx(expected * 2, rel=1e-12, abs=1e-18)


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Correlation in units of its standard error under independence."""
    return float((first * second).mean()) * math.sqrt(first.numel())


def test_seeds_draws_and_positions_are_uncorrelated() -> None:
    seeds = torch.arange(40)
    first, second = normal(seeds, 0, 4096), normal(seeds, 1, 4096)
    assert abs(correlation(first, second)) < 4
    assert abs(correlation(first[:-1], first[1:])) < 4
    for lag in (1, 2, 3, 4, 8):
        assert abs(correlation(first[:, lag:], first[:, :-lag])) < 4, lag
    for power in (2, 4):  # Box–Muller's pairs share a radius: their sizes must not be coupled
        centred = first**power - (first**power).mean()
        scaled = centred / centred.std()
        assert abs(correlation(scaled[:, 0::2], scaled[:, 1::2])) < 4
    matrix = np.corrcoef(first.numpy())
    assert np.abs(matrix - np.eye(40)).max() * math.sqrt(4096) < 4.5


@quick
@given(SEED, SEED)
def test_different_seeds_give_different_noise(a: int, b: int) -> None:
    first, second = normal(torch.tensor([a, b]), 0, 8)
    assert torch.equal(first, second) == (a == b)


def test_seeds_that_differ_in_their_high_word_alone_are_unrelated() -> None:
    low, high = normal(torch.tensor([5, 5 + 2**32]), 0, 40_000)
    assert abs(correlation(low, high)) < 4
    assert not torch.isclose(low, high).any()


def test_a_seed_and_a_draw_are_not_interchangeable() -> None:
    assert abs(correlation(normal(torch.tensor([1]), 0, 40_000), normal(torch.tensor([0]), 1, 40_000))) < 4


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, math.nan, math.inf, True, "7", None])
def test_what_is_no_seed_is_refused_by_its_value(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"a seed must be a whole number from 0 to 2\*\*63 - 1, got ") as error:
        Noise([0, seed], (2,), torch.float32)
    assert repr(seed) in str(error.value)


def test_whole_numbers_of_any_kind_are_seeds() -> None:
    assert [check_seed(seed) for seed in (3, 3.0, np.int64(3), torch.tensor(3))] == [3, 3, 3, 3]
    assert check_seed(2**63 - 1) == 2**63 - 1
