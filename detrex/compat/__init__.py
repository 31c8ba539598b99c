"""What only code written for upstream needs.

Its names (``names``), its methods that a detector or a criterion calls or refuses (``overrides``,
``detector``), its dicts of outputs and losses layer by layer (``outputs``, ``layer_losses``,
``layerwise``), its layers, costs, losses and averaged weights.
"""
