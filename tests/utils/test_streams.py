"""Text for a reader that has gone."""

import os
import sys

from detrex.utils.streams import outlive_readers


def test_closed_stream_and_broken_pipe_take_text(monkeypatch):
    read, write = os.pipe()
    pipe = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stdout", pipe)
    monkeypatch.setattr(sys, "stderr", None)
    outlive_readers()
    print("first", flush=True)
    assert os.read(read, 100) == b"first\n"
    os.close(read)
    for _ in range(3):
        print("x" * 100_000, flush=True)
        print("second", file=sys.stderr, flush=True)
    pipe.close()  # what it held went nowhere


def test_streams_are_wrapped_once(monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    outlive_readers()
    streams = sys.stdout, sys.stderr
    outlive_readers()
    assert (sys.stdout, sys.stderr) == streams
    assert sys.stdout.encoding
