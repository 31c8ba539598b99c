"""Finding, loading and saving config files."""

from detrex.utils.lazy import lazy_names

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "config": "config_root get_config get_recipe",
        "dump": "CONFIG_FILE config_differences config_yaml is_reproducible json_config",
        "load": "load_config model_config",
        "models": "MODELS model_file",
    },
)
