"""Data pipeline: mapper, seeded training loader, custom COCO-format data sets."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "coco_format": "load_coco",
        "custom": "apply_custom_dataset register_custom_coco",
        "dataset_info": "DatasetInfo check_dataset_files check_num_classes",
        "mapper": "DetrDatasetMapper",
        "loader": "TrainLoader build_train_loader",
        "multi_image": "CopyBlend MixUp Mosaic",
        "torchvision_mapper": "TorchvisionMapper",
        "windows": "Window",
    },
)
