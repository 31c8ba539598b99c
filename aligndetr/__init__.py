"""Import paths of Align-DETR's own repository, for its forks and configs."""
