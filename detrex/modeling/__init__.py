"""Parts of detection transformers, shared by all methods.

``SetCriterion``, ``HungarianMatcher`` and ``ChannelMapper`` can be imported from here; they are
looked up when asked for (``detrex/compat/names.py``).
"""
