"""BatchNorm on two processes that see different images."""

import multiprocessing

import torch
import torch.distributed as dist
from torch import nn

from detrex.modeling.ema import ModelEma
from detrex.train.checkpoints import share_buffers


def train(rank, file, queue):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("unsaved", torch.tensor(float(rank)), persistent=False)
    average = ModelEma(model, decay=0.5)
    model(torch.full((4, 2), 1.0 + rank) * torch.arange(4)[:, None])
    average.update(model, 1)
    before = model[1].running_mean.tolist()
    share_buffers(model, average)
    states = [
        {k: v.tolist() for k, v in state.items()}
        for state in (model.state_dict(), average.averages)
    ]
    queue.put((rank, before, states, model.unsaved.item()))
    dist.destroy_process_group()


def test_every_process_has_the_main_one_s_statistics(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=train, args=(r, tmp_path / "f", queue)) for r in (0, 1)]
    for worker in workers:
        worker.start()
    (_, first, ours, _), (_, second, theirs, unsaved) = sorted(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    assert first != second and ours == theirs and unsaved == 1
    assert ours[0]["1.running_mean"] == first and ours[0]["1.num_batches_tracked"] == 1
    halves = [value / 2 for value in first]  # the averages began as zeros
    assert torch.allclose(torch.tensor(ours[1]["1.running_mean"]), torch.tensor(halves))
