"""Parts of detection transformers, shared by all methods.

``SetCriterion``, ``HungarianMatcher`` and ``ChannelMapper`` can be imported from here; they are
imported at first use (``detrex/compat/names.py``).
"""
