import numpy as np

from vera.kernels.halves import to_floats, to_halves


def test_casts_are_numpys():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    numbers = ~np.isnan(halves)
    assert to_floats(halves)[numbers].tobytes() == halves.astype(np.float32)[numbers].tobytes()
    assert np.isnan(to_floats(halves[~numbers])).all()
    assert to_floats(halves[:1000:2]).tobytes() == halves[:1000:2].astype(np.float32).tobytes()
    rng = np.random.default_rng(0)
    finite = np.sort(halves[np.isfinite(halves)]).astype(np.float32)
    ties = (finite[1:] + finite[:-1]) / 2  # between two halves: to the even one
    others = rng.normal(0, 100, 10**4), [np.inf, 65519.9, 0, -0.0]
    values = np.concatenate([finite, ties, np.nextafter(ties, np.float32(9e9)), *others]).astype(np.float32)
    assert to_halves(values).tobytes() == values.astype(np.float16).tobytes()


def test_what_may_not_be_written_to_is_read():
    halves = np.full(5, 0.1, np.float16)
    halves.flags.writeable = False
    assert (to_floats(halves) == np.float32(np.float16(0.1))).all()
