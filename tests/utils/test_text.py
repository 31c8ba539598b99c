"""Parts of messages, numbers for JSON, packages that may be missing."""

import math

from detrex.utils.misc import finite
from detrex.utils.text import first_few, first_line


def test_lists_are_cut_with_an_ellipsis():
    assert first_few(["a", "b", "c"]) == "a, b, c"
    assert first_few(["a", "b", "c", "d"]) == "a, b, c, ..."
    assert first_few(["a", "b", "c"], 2, "; ") == "a; b; ..."
    assert first_few([]) == ""


def test_only_the_first_line_of_an_error_is_shown():
    assert first_line(ValueError("wrong\nand why")) == "wrong"
    assert first_line(ValueError()) == ""


def test_json_gets_no_numbers_that_it_lacks():
    value = {"a": [1.5, math.nan], "b": {"c": (math.inf, "nan", 2)}}
    assert finite(value) == {"a": [1.5, None], "b": {"c": [None, "nan", 2]}}
