# Training defaults. A period or length may be an int (iterations), "12ep" or "0.5ep" (epochs of the
# training set) or, max_iter aside, a float in (0, 1) (fraction of max_iter). An iteration is one
# optimizer step on dataloader.train.total_batch_size images.
train = dict(
    output_dir="./output",
    init_checkpoint="",
    freeze=[],  # parts of parameter names that stay as loaded, e.g. ["backbone.stem"]
    max_iter=90000,
    amp=dict(enabled=False, dtype="bfloat16"),  # or "float16", with loss scaling
    ddp=dict(
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,
        gradient_as_bucket_view=True,
    ),
    clip_grad=dict(enabled=False, params=dict(max_norm=0.1, norm_type=2)),
    channels_last=True,  # memory layout of convolutions
    float32_matmul_precision="highest",  # "high": TF32 on GPUs that have it
    cudnn_benchmark=False,  # tries algorithms for every image size: pays with few sizes
    deterministic=False,  # same seed, same bits, also on a GPU; slower
    compile=False,  # torch.compile of the backbone and of encoder and decoder layers
    activation_checkpointing=False,  # of encoder and decoder layers: less memory, more time
    accumulation_steps=1,  # forward and backward passes per iteration, each on its share of images
    seed=-1,  # negative: a random one, logged and saved with the run
    fast_dev_run=dict(enabled=False),  # 20 iterations, to see whether everything works
    checkpointer=dict(period=5000, max_to_keep=100),  # None keeps all
    eval_period=5000,
    log_period=20,
    wandb=dict(
        enabled=False,
        params=dict(dir="./wandb_output", project="detrex", name="detrex_experiment"),
    ),
    hooks=[],  # detectron2's or your own: docs/training.md
    model_ema=dict(
        enabled=False,
        decay=0.999,
        warmup=0,  # iterations over which the decay grows
        device="",
        use_ema_weights_for_eval_only=False,
    ),
    device="cuda",
    matcher_change_fraction=None,  # e.g. 0.75: high-order matching cost from there on
)
