"""Means and deviations of ImageNet's pixels (0 to 255) for ``pixel_mean`` and ``pixel_std``."""

constants = dict(
    imagenet_rgb256_mean=[123.675, 116.28, 103.53],
    imagenet_rgb256_std=[58.395, 57.12, 57.375],
    imagenet_bgr256_mean=[103.53, 116.28, 123.675],
    imagenet_bgr256_std=[1.0, 1.0, 1.0],  # Detectron 1's weights contain the deviation
)
