"""All tests, and the processes that they start, compute on one thread.

Sums are split by the number of threads: runs that are compared bit for bit need the same number,
and a test that changes it would change what later tests compute.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Undo what a test or the program it calls does to the number of threads."""
    torch.set_num_threads(1)
