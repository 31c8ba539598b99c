"""Finding, loading and saving config files."""

from .config import config_root, get_config, get_recipe
from .dump import CONFIG_FILE, config_differences, config_yaml, is_reproducible, json_config
from .load import load_config

__all__ = [
    "CONFIG_FILE",
    "config_differences",
    "config_root",
    "config_yaml",
    "get_config",
    "get_recipe",
    "is_reproducible",
    "json_config",
    "load_config",
]
