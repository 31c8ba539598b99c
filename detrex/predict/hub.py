"""Folders of a config and weights, as on the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from torch import nn

from detrex.checkpoint.weights import write_safetensors
from detrex.config import CONFIG_FILE, config_yaml, is_reproducible
from detrex.config.trust import remember
from detrex.evaluation.calibration.maps import ScoreMaps
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write
from detrex.utils.text import first_line

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

WEIGHTS = "model.safetensors"


class Pretrained:
    """Mixin of a class that is built from a config file and a checkpoint."""

    config: DictConfig
    model: nn.Module
    classes: list[str] | None
    category_ids: list[int] | None
    maps: ScoreMaps | None

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, **options: object
    ) -> Self:
        """Build from a folder that :meth:`save_pretrained` wrote, or from a repository of the Hub.

        Its config builds classes of detrex, its projects, torch.nn, torchvision, timm and
        detectron2. Code of others runs only with ``trust_config=True``, or if this user has
        written the config.

        Args:
            name: the folder, or "owner/name" on the Hub (needs huggingface_hub).
            revision: of the repository: branch, tag or commit.
            options: the class's other arguments.

        Raises:
            InputError: there is no such folder or repository, or it lacks one of the two files.
        """
        folder = Path(name) if Path(name).is_dir() else _download(str(name), revision)
        return cls(folder / CONFIG_FILE, folder / WEIGHTS, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.yaml`` and ``model.safetensors``, which :meth:`from_pretrained` reads.

        Raises:
            InputError: the config has functions that a file cannot name.
        """
        text = portable_config(self.config)
        self.write_weights(Path(folder) / WEIGHTS)
        with atomic_write(Path(folder) / CONFIG_FILE) as stream:
            stream.write(text)
        remember(text)

    def write_weights(self, path: Path) -> None:
        """Write a safetensors file, with the config, the classes and the maps of scores.

        Raises:
            InputError: the config has functions that a file cannot name.
        """
        config, maps = portable_config(self.config), self.maps and self.maps.to_dict()
        write_safetensors(self.model, path, config, self.classes, self.category_ids, maps)


def portable_config(cfg: DictConfig) -> str:
    """A config as YAML for a file that holds only the model's weights.

    Raises:
        InputError: the config has functions that a file cannot name.
    """
    if not is_reproducible(cfg):
        raise InputError("the config holds lambdas or local functions: give them names in a module")
    cfg = cfg.copy()
    cfg.train.model_ema.use_ema_weights_for_eval_only = False  # the model has them
    return config_yaml(cfg)


def _download(name: str, revision: str | None) -> Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(f"{name}: no such folder (for the Hub, pip install huggingface_hub)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        files = [CONFIG_FILE, WEIGHTS]
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except (OSError, HFValidationError) as error:  # of the network, too
        raise InputError(
            f"{name}: no such folder, and not on the Hub: {first_line(error)}"
        ) from error
