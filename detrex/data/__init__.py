"""Data pipeline: mapper, seeded training loader, custom COCO-format data sets."""

from .coco_format import load_coco
from .custom_coco import apply_custom_dataset, register_custom_coco
from .dataset_info import DatasetInfo, check_dataset_files, check_num_classes, dataset_info
from .detr_dataset_mapper import DetrDatasetMapper
from .loader import TrainLoader, build_train_loader
from .torchvision_mapper import TorchvisionMapper

__all__ = [
    "DatasetInfo",
    "DetrDatasetMapper",
    "TorchvisionMapper",
    "TrainLoader",
    "apply_custom_dataset",
    "build_train_loader",
    "check_dataset_files",
    "check_num_classes",
    "dataset_info",
    "load_coco",
    "register_custom_coco",
]
