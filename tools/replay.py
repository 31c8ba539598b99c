"""Repeat the step that ended a run with a non-finite loss, and say where in the model it began.

python tools/replay.py output/run/nan_state.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a config's models may not be installed

from detrex.utils.cli import add_trust_config, run_command
from detrex.utils.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("snapshot", help="nan_state.pth of a run")
    parser.add_argument("--config-file", help="default: config.yaml beside the snapshot")
    parser.add_argument("opts", nargs="*", metavar="key=value", help="config overrides")
    add_trust_config(parser)
    args = parser.parse_intermixed_args()
    from detectron2.config import instantiate  # take seconds: not before --help

    from detrex.checkpoint import existing_checkpoint, load_weights
    from detrex.config import CONFIG_FILE
    from detrex.config.load import load_config
    from detrex.train.replay import replay
    from detrex.utils.device import resolve_device

    existing_checkpoint(args.snapshot)
    config = args.config_file or Path(args.snapshot).with_name(CONFIG_FILE)
    cfg = load_config(str(config), args.opts, args.trust_config)
    model = instantiate(cfg.model)
    _, snapshot = load_weights(model, args.snapshot, strict=True, finite=False)
    if not {"iteration", "rank", "losses", "inputs", "earlier_inputs"} <= snapshot.keys():
        raise InputError(f"{args.snapshot} is no snapshot of a failed step: give a nan_state.pth")
    repeated = replay(cfg, model.to(resolve_device(cfg.train.device)), snapshot)
    print(f"iteration {snapshot['iteration']}, then: {show(snapshot['losses'])}")
    print(f"repeated: {show(repeated.losses)}")
    print(f"first output that is not finite: {repeated.module or 'none'}")
    print(f"parameters that are not finite: {', '.join(repeated.parameters) or 'none'}")
    print(f"gradients that are not finite: {', '.join(repeated.gradients) or 'none'}")


def show(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in losses.items())


if __name__ == "__main__":
    run_command(main)
