"""Import paths of Align-DETR's own repository, for its forks and configs."""

import detrex  # noqa: F401  (it makes Python find upstream's names, here too)
