"""DEIM's recipe over 120 epochs, as for its smallest models: ``dataloader, lr_multiplier,
optimizer, train``. The first windows are as long in epochs as in 60, the last is one longer."""

from detrex.config import get_recipe

dataloader, lr_multiplier, optimizer, train = get_recipe("common/recipes/deim.py")

_first, _second = dataloader.train.mapper.windows
_first.update(start=4 / 120, stop=64 / 120)
_second.update(start=64 / 120, stop=117 / 120)
lr_multiplier.update(flat=64 / 120, final=3 / 120)
train.max_iter = "120ep"
train.reload_best = 117 / 120
