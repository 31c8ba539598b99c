from .rf_detr import RFDETR

__all__ = ["RFDETR"]
