"""Values that the database can sum up."""

import numpy as np

from ingest_server.decoder import Bools, Float64s

_GREATEST, _LEAST = 1e100, 1e-100
# PostgreSQL raises an error where a sum, or the squares that its avg() carries along, leave the range of numbers, and
# where a quotient comes to 0. So one such value would stop the rollups of every device, until somebody deleted it. No
# sensor has any: a float32 ends at 3.4e38 and at 1.4e-45.

UNSUMMABLE = "NaN, infinite, or of a magnitude beyond 1e100 or below 1e-100"


def summable(values: Float64s) -> Bools:
    """Of n values, which ones sums and averages may hold (n bools)."""
    magnitudes = np.abs(values)
    # NaN compares as False.
    found: Bools = ((magnitudes <= _GREATEST) & (magnitudes >= _LEAST)) | (values == 0)
    return found
