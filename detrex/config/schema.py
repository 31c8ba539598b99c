"""Every key of ``train``, and the few others that are checked: default, meaning and limits.

Configs are loaded, checked, resolved and compared by this table, and ``configs/common/train.py``
takes its defaults from it. A config may have further keys, which are not checked.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Key:
    """What is known about one key.

    Attributes:
        default: what a config without the key gets, in ``train`` and ``dataloader.dataset``.
        type: of its values; by default that of ``default``. None: it is not checked here.
        least: lowest number.
        most: highest number.
        optional: it may be None.
        is_length: iterations (an int), epochs ("12ep", "0.5ep") or a fraction of ``train.max_iter``
            (a float in (0, 1)). An iteration is one optimizer step on
            ``dataloader.train.total_batch_size`` images.
        is_path: a file or folder. On the command line it is read letter for letter.
        is_output: a folder that the run writes to; it does not change what the run computes.
        volatile: it may change between two starts of one run.
    """

    default: object = None
    _: KW_ONLY
    type: type | None = None
    least: float | None = None
    most: float | None = None
    optional: bool = False
    is_length: bool = False
    is_path: bool = False
    is_output: bool = False
    volatile: bool = False

    @property
    def checked_type(self) -> type | None:
        """The type that its values must have; None: any."""
        if self.is_length or (self.type is None and self.default is None):
            return None
        return self.type or type(self.default)


_OUTPUT = dict(is_path=True, is_output=True, volatile=True)
_SWITCH = Key(False)

KEYS: dict[str, Key] = {
    # "./output" stands for ./output/<name of the config file>.
    "train.output_dir": Key("./output", **_OUTPUT),
    "train.init_checkpoint": Key("", optional=True, is_path=True, volatile=True),
    # Parts of parameter names that stay as loaded, e.g. ["backbone.stem"].
    "train.freeze": Key([]),
    "train.max_iter": Key(90000, is_length=True, volatile=True),  # no fraction
    "train.amp.enabled": _SWITCH,
    "train.amp.dtype": Key("bfloat16"),  # or "float16", with loss scaling
    "train.ddp.broadcast_buffers": _SWITCH,
    "train.ddp.find_unused_parameters": _SWITCH,
    "train.ddp.fp16_compression": _SWITCH,
    "train.ddp.gradient_as_bucket_view": Key(True),
    "train.clip_grad.enabled": _SWITCH,
    "train.clip_grad.params": Key(dict(max_norm=0.1, norm_type=2)),
    "train.channels_last": Key(True, volatile=True),  # memory layout of convolutions
    "train.float32_matmul_precision": Key("highest"),  # "high": TF32 on GPUs that have it
    # Tries algorithms for every image size: pays with few sizes.
    "train.cudnn_benchmark": Key(False, volatile=True),
    "train.deterministic": _SWITCH,  # same seed, same bits, also on a GPU; slower
    # torch.compile of the backbone and of encoder and decoder layers.
    "train.compile": Key(False, volatile=True),
    # Of encoder and decoder layers: less memory, more time.
    "train.activation_checkpointing": Key(False, volatile=True),
    # Forward and backward passes per iteration, each on its share of images.
    "train.accumulation_steps": Key(1, least=1),
    # Negative: a random one, logged and saved with the run. The highest is numpy's.
    "train.seed": Key(-1, most=2**32 - 1),
    # 20 iterations, to see whether everything works.
    "train.fast_dev_run.enabled": Key(False, volatile=True),
    "train.checkpointer.period": Key(5000, is_length=True, volatile=True),
    # None keeps all.
    "train.checkpointer.max_to_keep": Key(100, least=1, optional=True, volatile=True),
    "train.eval_period": Key(5000, is_length=True, volatile=True),
    # By which model_best.pth is chosen: any figure of an evaluation that is better when higher, or
    # when lower ("calibration/D-ECE"); of the averaged weights, if there are any.
    "train.best_metric": Key("bbox/AP", volatile=True),
    # Goes on from the weights with the best score; None: never.
    "train.reload_best": Key(optional=True, is_length=True),
    "train.log_period": Key(20, least=1, volatile=True),
    "train.wandb.enabled": Key(False, volatile=True),
    "train.wandb.params": Key(
        dict(dir="./wandb_output", project="detrex", name="detrex_experiment"), volatile=True
    ),
    "train.hooks": Key([]),  # detectron2's or your own: docs/training.md
    "train.model_ema.enabled": _SWITCH,
    "train.model_ema.decay": Key(0.999, least=0, most=1),
    "train.model_ema.warmup": Key(0, least=0),  # iterations over which the decay grows
    "train.model_ema.device": Key("", optional=True),
    "train.model_ema.use_ema_weights_for_eval_only": _SWITCH,
    # "auto": the accelerator of this machine, else the CPU.
    "train.device": Key("auto", volatile=True),
    # 0.75 means matcher_change_iter=0.75 in every part of the model that takes it.
    "train.matcher_change_fraction": Key(),
    # Registers <name>_train and <name>_val when a JSON is given.
    "dataloader.dataset.name": Key(),
    "dataloader.dataset.train.json": Key(is_path=True),
    "dataloader.dataset.train.images": Key(is_path=True),
    "dataloader.dataset.val.json": Key(is_path=True),
    "dataloader.dataset.val.images": Key(is_path=True),
    # True: replace images that do not decode, and count them.
    "dataloader.dataset.skip_broken_images": Key(False),
    "dataloader.train.total_batch_size": Key(type=int, least=1),
    "dataloader.train.num_workers": Key(type=int, least=0, volatile=True),
    "dataloader.test.num_workers": Key(type=int, least=0, volatile=True),
    "dataloader.evaluator": Key(volatile=True),
    "dataloader.evaluator.output_dir": Key(**_OUTPUT),
    "optimizer.lr": Key(type=float),
}


def names(flag: str) -> list[str]:
    """Return the keys with a flag, e.g. ``names("is_path")``."""
    return [name for name, key in KEYS.items() if getattr(key, flag)]


def groups(root: str) -> list[str]:
    """Return ``root`` and every group of keys below it, e.g. "train", "train.amp"."""
    parents = [name.rpartition(".")[0] for name in KEYS if name.startswith(f"{root}.")]
    return list(dict.fromkeys([root, *parents]))


def defaults(root: str) -> dict:
    """Return the default of every key below a group ("train"), nested; a fresh copy."""
    nested: dict = {}
    for name, key in KEYS.items():
        if name.startswith(f"{root}."):
            *path, last = name.removeprefix(f"{root}.").split(".")
            node = nested
            for part in path:
                node = node.setdefault(part, {})
            node[last] = copy.deepcopy(key.default)
    return nested


def add_defaults(config: MutableMapping) -> None:
    """Give a config the keys of ``train`` and ``dataloader.dataset`` that it lacks, in place."""
    dataset = defaults("dataloader.dataset")
    _add(config, {"train": defaults("train"), "dataloader": {"dataset": dataset}})


def _add(node: MutableMapping, values: dict) -> None:
    for key, value in values.items():
        if key not in node:
            node[key] = value
        elif isinstance(value, dict) and isinstance(node[key], MutableMapping):
            _add(node[key], value)


def parent(config: dict, name: str) -> dict:
    """Return the group of a plain config that holds a key; empty if there is none."""
    node: object = config
    for part in name.split(".")[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}
