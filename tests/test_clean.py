"""Cleaning: the grid and what is missing on it, against a slow version written from the description."""

import numpy as np

from stages.lib.cleaning import short_gaps


def test_a_long_gap_is_left_whole():
    missing = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1], bool)
    assert short_gaps(missing, 2).tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0]
