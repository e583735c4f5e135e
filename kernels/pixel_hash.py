"""A hash of an image's exact pixels."""

import hashlib

import numpy as np


def pixel_hash(array: np.ndarray) -> str:
    """BLAKE2b (128 bits, hexadecimal) of an array's bits, shape and type.

    Equal only for equal bits: -0.0 differs from 0.0, and one NaN from another.
    The same on every machine, whatever its byte order.
    """
    array = np.ascontiguousarray(array)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{little.dtype.str} {little.shape}".encode())
    digest.update(little.data)
    return digest.hexdigest()
