"""All tests, and the processes that they start, compute on one thread.

Sums are split by the number of threads: runs that are compared bit for bit need the same number,
and a test that changes it would change what later tests compute.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from tests.train.runs import TinyRuns
from tests.train.tiny import write_data


@pytest.fixture(autouse=True)
def one_thread():
    """Undo what a test or the program it calls does to the number of threads."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("tiny_data"))


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory):
    """Where runs of the tests note what they wrote; not the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def tiny_run(tmp_path, tiny_data):
    return TinyRuns(tmp_path, tiny_data)
