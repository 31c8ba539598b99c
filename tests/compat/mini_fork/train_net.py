"""A training script as upstream's: detectron2's trainer, hooks and parser, detrex's EMA."""

import time

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import (
    SimpleTrainer,
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
)
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm

from detrex.modeling import ema


class Trainer(SimpleTrainer):
    def __init__(self, model, dataloader, optimizer, clip_grad_params=None):
        super().__init__(model=model, data_loader=dataloader, optimizer=optimizer)
        self.clip_grad_params = clip_grad_params
        self.losses = []

    def run_step(self):
        assert self.model.training
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        loss_dict = self.model(data)
        self.optimizer.zero_grad()
        sum(loss_dict.values()).backward()
        if self.clip_grad_params is not None:
            parameters = [p for p in self.model.parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(parameters, **self.clip_grad_params)
        self.optimizer.step()
        self._write_metrics(loss_dict, data_time)
        self.losses.append({name: loss.item() for name, loss in loss_dict.items()})


def do_test(cfg, model):
    loader, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    results = inference_on_dataset(model, loader, evaluator)
    print_csv_format(results)
    return results


def do_train(args, cfg):
    model = instantiate(cfg.model)
    model.to(cfg.train.device)
    ema.may_build_model_ema(cfg, model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    clip = cfg.train.clip_grad.params if cfg.train.clip_grad.enabled else None
    trainer = Trainer(model, loader, optimizer, clip)
    more = ema.may_get_ema_checkpointer(cfg, model)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer, **more)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            ema.EMAHook(cfg, model) if cfg.train.model_ema.enabled else None,
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, period=2) if comm.is_main_process() else None,
            hooks.EvalHook(cfg.train.eval_period, lambda: do_test(cfg, model)),
            hooks.PeriodicWriter(
                default_writers(cfg.train.output_dir, cfg.train.max_iter),
                period=cfg.train.log_period,
            ),
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=args.resume)
    trainer.train(0, cfg.train.max_iter)
    return trainer


def main(arguments):
    args = default_argument_parser().parse_args(arguments)
    cfg = LazyConfig.load(args.config_file)
    cfg = LazyConfig.apply_overrides(cfg, args.opts)
    default_setup(cfg, args)
    if not args.eval_only:
        return do_train(args, cfg)
    model = instantiate(cfg.model)
    model.to(cfg.train.device)
    ema.may_build_model_ema(cfg, model)
    DetectionCheckpointer(model, **ema.may_get_ema_checkpointer(cfg, model)).load(
        cfg.train.init_checkpoint
    )
    with ema.apply_model_ema_and_restore(model):
        return do_test(cfg, model)
