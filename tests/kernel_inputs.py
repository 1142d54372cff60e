"""Tests of kernels with arguments that do not fit, which test_kernels.py runs in a process with NUMBA_BOUNDSCHECK=1.

There, an index outside an array raises IndexError instead of reading or writing beyond it.
"""

import hypothesis.strategies as st
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from zfaudio.data import frames as kernels
from zfaudio.ops import head_loop, tiered_loop
from zfaudio.ops.sample_bounds import Bounds
from zfaudio.ops.sample_draw import GAUSSIAN

# What Python may answer to arguments that do not fit. An IndexError is not among them.
REFUSED = (ValueError, TypeError, OverflowError, ZeroDivisionError, numba.TypingError)

dtypes = st.sampled_from(["<i2", ">i2", "u2", "i4", "i8", "f4", "f8", "c8", "?", "S3", "O"])
any_array = dtypes.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)))
lengths = st.integers(0, 20)


def test_an_index_outside_an_array_would_be_seen():
    @numba.njit
    def outside(values: np.ndarray) -> float:
        return values[len(values)]

    with pytest.raises(IndexError):
        outside(np.zeros(3))


@settings(max_examples=300)
@given(
    any_array, st.one_of(st.none(), any_array), st.floats(), st.floats(), st.integers(-5, 2**65), st.integers(-5, 99)
)
def test_arrays_of_any_type_and_shape_are_used_or_refused(frames, out, mean, deviation, seed, first):
    frames_fit = frames.dtype == np.int16 and frames.ndim == 2
    out_fits = out is None or (out.dtype == np.float32 and out.shape == frames.shape)
    for fits, call in (
        (frames_fit and out_fits, lambda: kernels.standardize(frames, mean, deviation, out)),
        (frames_fit and out_fits, lambda: kernels.dequantize(frames, mean, deviation, seed, first, out)),
        (frames_fit, lambda: kernels.count_constant(frames)),
    ):
        try:
            call()
        except REFUSED:
            continue
        assert fits


@given(lengths, lengths, st.integers(0, 9))
def test_kernels_refuse_lengths_that_differ(length, out_length, width):
    samples, out = np.ones(length, np.int16), np.full(out_length, np.nan, np.float32)
    seed = np.uint64(0)
    for call in (
        lambda: kernels._standardize(samples, 0.0, 1.0, out),
        lambda: kernels._dequantize(samples, 0.0, 1.0, seed, seed, out),
    ):
        if length == out_length:
            call()
            assert np.isfinite(out).all()
        else:
            with pytest.raises(ValueError, match="differ in length"):
                call()
    assert kernels._count_constant(np.ones((length, width), np.int16)) == length
    if length:
        assert kernels._block_moments(samples) == (1.0, 0.0)


@pytest.mark.parametrize(("frames_width", "out_width"), [(400, 200), (200, 400)])
def test_frames_of_another_width_are_not_written(frames_width, out_width):
    frames, batch = np.ones((20, frames_width), np.int16), np.zeros((2, 20, out_width), np.float32)
    for write in (
        lambda: kernels.standardize(frames, 0.0, 1.0, batch[0]),
        lambda: kernels.dequantize(frames, 0.0, 1.0, 0, 0, batch[0]),
    ):
        with pytest.raises(ValueError, match="out has shape"):
            write()
    assert not batch.any()


def head_arguments(kind: int, window: int, components: int, head_size: int, samples: int) -> dict[str, object]:
    """Arguments of the head's loop that fit together."""
    outputs = 2 if kind == GAUSSIAN else 3 * components
    return {
        "signal": np.zeros(window + samples),
        "window": window,
        "gain": np.ones(head_size),
        "shift": np.zeros(head_size),
        "grid": 1.0,
        "choice": np.full(samples, 0.5),
        "deviate": np.zeros(samples),
        "filters": np.zeros((window + 2, head_size)),
        "filters_bias": np.zeros(head_size),
        "inner": np.zeros((head_size, head_size)),
        "inner_bias": np.zeros(head_size),
        "outer": np.zeros((head_size, outputs)),
        "outer_bias": np.zeros(outputs),
        "linear": np.zeros((window + 2, outputs)),
        "likelihood": (kind, components, -5.0, -5.0, 0.0, 1000.0),
        "slope": 0.1,
        "temperature": 1.0,
    }


@settings(max_examples=300)
@given(st.data())
def test_the_loop_of_the_head_refuses_arrays_that_do_not_fit(data):
    kind = data.draw(st.integers(0, 2))
    arguments = head_arguments(kind, window=4, components=2, head_size=3, samples=5)
    signal = arguments["signal"]
    head_loop._draw_row(*arguments.values())
    assert np.isfinite(signal).all()
    name = data.draw(st.sampled_from([name for name, value in arguments.items() if isinstance(value, np.ndarray)]))
    shape = tuple(data.draw(st.integers(0, 9)) for _ in arguments[name].shape)
    fits = shape == arguments[name].shape
    arguments[name] = np.zeros(shape)
    if fits:
        head_loop._draw_row(*arguments.values())
    else:
        with pytest.raises(ValueError, match="do not fit"):
            head_loop._draw_row(*arguments.values())
    likelihoods = [(kind, components, -5.0, -5.0, 0.0, 1000.0) for components in (0, -1)]
    for other in ({"window": 0}, {"window": -3}, {"window": 9}, *({"likelihood": wrong} for wrong in likelihoods)):
        with pytest.raises(ValueError, match="do not fit"):
            head_loop._draw_row(*{**arguments, **other}.values())


def tiered_arguments(kind: int, lags: int) -> dict[str, object]:
    """Arguments of the tiered head's loop that fit together."""
    tier, reach, window, order, middle, units, condition, components = 4, 13, 5, 3, 6, 7, 2, 2
    outputs = 2 if kind == GAUSSIAN else 3 * components
    inputs = window + 4 + (2 * lags + 2 if lags else 0)
    heard = max(reach, window + order, reach // 2 + lags + order)
    return {
        "signal": np.zeros(heard + 2 * tier),
        "condition": np.zeros(condition),
        "grid": 1.0,
        "choice": np.full(2 * tier, 0.5),
        "deviate": np.zeros(2 * tier),
        "middle_samples": np.zeros((middle, 2 * reach + 1)),
        "middle_samples_bias": np.zeros(middle),
        "middle_condition": np.zeros((middle, condition)),
        "middle_inner": np.zeros((middle, middle)),
        "middle_inner_bias": np.zeros(middle),
        "adapt": np.zeros((3 * units, middle)),
        "adapt_bias": np.zeros(3 * units),
        "filters": np.zeros((units, inputs)),
        "filters_bias": np.zeros(units),
        "inner": np.zeros((units, units)),
        "inner_bias": np.zeros(units),
        "outer": np.zeros((outputs, units)),
        "outer_bias": np.zeros(outputs),
        "linear": np.zeros((outputs, inputs)),
        "taper": np.ones(reach),
        "sizes": tiered_loop.TieredSizes(tier, reach, window, lags, order),
        "bounds": Bounds(0.1, 4.0, 16.0, 20.0),
        "likelihood": (kind, components, -5.0, -5.0, 0.0, 1000.0),
        "temperature": 1.0,
    }


def draw_tiered_row(arguments: dict[str, object]) -> None:
    weights = {name: arguments[name] for name in tiered_loop.TieredWeights._fields}
    others = {name: value for name, value in arguments.items() if name not in weights}
    tiered_loop._draw_row(**others, weights=tiered_loop.TieredWeights(**weights))


@settings(max_examples=400)
@given(st.data())
def test_the_loop_of_the_tiered_head_refuses_arrays_that_do_not_fit(data):
    arguments = tiered_arguments(data.draw(st.integers(0, 2)), data.draw(st.sampled_from([0, 2])))
    draw_tiered_row(arguments)
    assert np.isfinite(arguments["signal"]).all()
    name = data.draw(st.sampled_from([name for name, value in arguments.items() if isinstance(value, np.ndarray)]))
    shape = tuple(data.draw(st.integers(0, 29)) for _ in arguments[name].shape)
    longer = name == "signal" and shape[0] > len(arguments["signal"])  # samples that nobody hears
    fits = shape == arguments[name].shape or longer
    arguments[name] = np.zeros(shape)
    if fits:
        draw_tiered_row(arguments)
    else:
        with pytest.raises(ValueError, match="do not fit"):
            draw_tiered_row(arguments)


@pytest.mark.parametrize("lags", [0, 2])
@pytest.mark.parametrize("field", tiered_loop.TieredSizes._fields)
@given(value=st.integers(-3, 30))
def test_the_loop_of_the_tiered_head_refuses_sizes_that_do_not_fit(field, lags, value):
    arguments = tiered_arguments(GAUSSIAN, lags)
    changed = arguments["sizes"]._replace(**{field: value})
    fits = value == getattr(arguments["sizes"], field)
    # Steps and a linear prediction of other lengths need no other arrays.
    fits |= field == "tier" and value in ((1, 2, 4, 8) if lags == 0 else (4,))
    fits |= field == "order" and 0 < value <= (5 if lags else 8)
    arguments["sizes"] = changed
    if fits:
        draw_tiered_row(arguments)
    else:
        with pytest.raises(ValueError, match="do not fit"):
            draw_tiered_row(arguments)
