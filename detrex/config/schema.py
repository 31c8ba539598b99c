"""Every key of ``train``, and the few others that are checked: default, meaning and limits.

Configs are loaded, checked, resolved and compared by this table, ``configs/common/train.py`` takes
its defaults from it, and the documentation's page of keys is made of it. A config may have further
keys, which are not checked.
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
        meaning: what a user reads about it.
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
    meaning: str = ""
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

KEYS: dict[str, Key] = {
    "train.output_dir": Key(
        "./output",
        'folder of the run; "./output" stands for ./output/ and the name of the config file',
        **_OUTPUT,
    ),
    "train.init_checkpoint": Key(
        "",
        "weights to start from, or with --eval-only to score",
        optional=True,
        is_path=True,
        volatile=True,
    ),
    "train.freeze": Key(
        [], 'what stays as loaded: parts of parameter names, e.g. ["backbone.stem"]'
    ),
    "train.max_iter": Key(
        90000, "length of the run, no fraction of it", is_length=True, volatile=True
    ),
    "train.amp.enabled": Key(False, "mixed precision, by autocast"),
    "train.amp.dtype": Key("bfloat16", 'or "float16", with loss scaling'),
    "train.ddp.broadcast_buffers": Key(False, "as DistributedDataParallel's"),
    "train.ddp.find_unused_parameters": Key(False, "as DistributedDataParallel's"),
    "train.ddp.fp16_compression": Key(False, "gradients travel between processes in fp16"),
    "train.ddp.gradient_as_bucket_view": Key(True, "as DistributedDataParallel's"),
    "train.sharding": Key(
        "none",
        '"full": each process holds a share of weights, gradients and optimizer state (FSDP), not '
        "all of them (DistributedDataParallel)",
        volatile=True,
    ),
    "train.clip_grad.enabled": Key(False, "limit the gradient's norm"),
    "train.clip_grad.params": Key(
        dict(max_norm=0.1, norm_type=2), "arguments of torch's clip_grad_norm_"
    ),
    "train.channels_last": Key(True, "memory layout of convolutions", volatile=True),
    "train.float32_matmul_precision": Key("highest", '"high": TF32 on GPUs that have it'),
    "train.cudnn_benchmark": Key(
        False, "try algorithms for every image size: pays with few sizes", volatile=True
    ),
    "train.deterministic": Key(False, "same seed, same bits, also on a GPU; slower"),
    "train.compile": Key(
        False, "torch.compile of the backbone and of encoder and decoder layers", volatile=True
    ),
    "train.activation_checkpointing": Key(
        False, "of encoder and decoder layers: less memory, more time", volatile=True
    ),
    "train.accumulation_steps": Key(
        1, "forward and backward passes per iteration, each on its share of images", least=1
    ),
    "train.seed": Key(
        -1,
        "negative: a random one, logged and saved with the run",
        most=2**32 - 1,  # numpy's highest
    ),
    "train.fast_dev_run.enabled": Key(
        False, "20 iterations, to see whether everything works", volatile=True
    ),
    "train.checkpointer.period": Key(
        5000, "between two checkpoints", is_length=True, volatile=True
    ),
    "train.checkpointer.max_to_keep": Key(
        100, "checkpoints of the run; None keeps all", least=1, optional=True, volatile=True
    ),
    "train.eval_period": Key(
        5000, "between two evaluations; 0: at the end only", is_length=True, volatile=True
    ),
    "train.best_metric": Key(
        "bbox/AP",
        "by which model_best.pth is chosen: any figure of an evaluation that is better when higher,"
        ' or when lower ("calibration/D-ECE"); of the averaged weights, if there are any',
        volatile=True,
    ),
    "train.reload_best": Key(
        None,
        "when to go on from the best weights, and later after scores no better; None: never",
        optional=True,
        is_length=True,
    ),
    "train.early_stopping.patience": Key(
        None,
        "how long a score may stand still until the run ends, looked at after every evaluation; "
        "None: the run has its full length",
        optional=True,
        is_length=True,
        volatile=True,
    ),
    "train.early_stopping.min_gain": Key(
        0.0, "what a better score must be better by, in its unit", least=0, volatile=True
    ),
    "train.early_stopping.metric": Key(
        None,
        "the score: any number of metrics.json, losses too; None: train.best_metric",
        type=str,
        optional=True,
        volatile=True,
    ),
    "train.log_period": Key(
        20, "iterations between two lines of the log, which are means", least=1, volatile=True
    ),
    "train.wandb.enabled": Key(False, "send losses and scores to Weights & Biases", volatile=True),
    "train.wandb.params": Key(
        dict(dir="./wandb_output", project="detrex", name="detrex_experiment"),
        "arguments of wandb.init",
        volatile=True,
    ),
    "train.mlflow.enabled": Key(False, "send losses and scores to MLflow", volatile=True),
    "train.mlflow.params": Key(
        dict(run_name="detrex_experiment"),
        "arguments of mlflow.start_run; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME name server "
        "and experiment",
        volatile=True,
    ),
    "train.clearml.enabled": Key(False, "send losses and scores to ClearML", volatile=True),
    "train.clearml.params": Key(
        dict(
            project_name="detrex",
            task_name="detrex_experiment",
            # Else it would send TensorBoard's numbers again, and every checkpoint.
            auto_connect_frameworks=False,
        ),
        "arguments of clearml.Task.init",
        volatile=True,
    ),
    "train.hooks": Key([], "detectron2's hooks or your own, called around every step"),
    "train.model_ema.enabled": Key(False, "average the weights over iterations, and score them"),
    "train.model_ema.decay": Key(0.999, "of the average, at every iteration", least=0, most=1),
    "train.model_ema.warmup": Key(0, "iterations over which the decay grows", least=0),
    "train.model_ema.device": Key("", "of the averages; empty: the model's", optional=True),
    "train.model_ema.use_ema_weights_for_eval_only": Key(
        False, "--eval-only scores the checkpoint's averaged weights"
    ),
    "train.device": Key(
        "auto", "auto: the accelerator of this machine, else the CPU", volatile=True
    ),
    "train.matcher_change_fraction": Key(
        None, "0.75 means matcher_change_iter=0.75 in every part of the model that takes it"
    ),
    "dataloader.dataset.name": Key(
        None, "of your own data: NAME_train and NAME_val are registered when a JSON is set"
    ),
    "dataloader.dataset.train.json": Key(
        None,
        "training data in COCO's format; `dataloader.dataset.train` may also be a list of data "
        "sets, each with `json`, `images` and `weight`",
        is_path=True,
    ),
    "dataloader.dataset.train.images": Key(None, "folder of its images", is_path=True),
    "dataloader.dataset.val.json": Key(None, "validation data in COCO's format", is_path=True),
    "dataloader.dataset.val.images": Key(None, "folder of its images", is_path=True),
    "dataloader.dataset.skip_broken_images": Key(
        False, "replace images that do not decode, and count them"
    ),
    "dataloader.train.total_batch_size": Key(
        None, "images of an iteration, on all processes together", type=int, least=1
    ),
    "dataloader.train.num_workers": Key(
        None, "processes that load training images; 0: none", type=int, least=0, volatile=True
    ),
    "dataloader.test.num_workers": Key(
        None, "processes that load validation images", type=int, least=0, volatile=True
    ),
    "dataloader.evaluator": Key(
        None, "what scores detections; null: nothing is evaluated", volatile=True
    ),
    "dataloader.evaluator.output_dir": Key(None, "folder of the detections", **_OUTPUT),
    "optimizer.lr": Key(None, "highest learning rate of the schedule", type=float),
    "optimizer.reference_batch_size": Key(
        None,
        "images of an iteration that optimizer.lr is for: it is scaled to total_batch_size in "
        "proportion, and the log says so; None: it is taken as it is",
        type=int,
        least=1,
        optional=True,
    ),
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
