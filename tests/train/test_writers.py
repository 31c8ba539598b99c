import logging
import sys
from types import SimpleNamespace

from detectron2.utils.events import EventStorage

from detrex.config import get_config
from detrex.utils import WandbWriter
from detrex.utils.events import BoundedStorage, ConsoleWriter


def test_console_line_has_progress_time_left_and_main_losses(caplog):
    writer = ConsoleWriter(max_iter=100)
    with EventStorage(0) as storage, caplog.at_level(logging.INFO):
        writer.write()  # nothing yet
        for storage.iter in range(40):
            storage.put_scalars(
                smoothing_hint=False,
                total_loss=3.25,
                loss_class=1.5,
                loss_class_0=9.0,
                loss_bbox_one2many=8.0,
                lr=1e-4,
                data_time=0.25,
                time=2.0,
            )
        writer.write()
        storage.iter = 100
        writer.write()  # after the last iteration
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("iter 40/100  eta 0:02:00  total_loss 3.25  loss_class 1.5  lr 0.0001")
    assert "2.000 s/it  data 0.250 s" in line and "one2many" not in line and "_0" not in line


def test_storage_keeps_the_last_values_only():
    with BoundedStorage(7, length=3) as storage:
        for value in (9.0, 1.0, 2.0, 6.0):
            storage.put_scalar("loss", value)
            storage.step()
    assert storage.history("loss").values() == [(1.0, 8), (2.0, 9), (6.0, 10)]
    assert storage.latest()["loss"] == (6.0, 10)
    assert storage.latest_with_smoothing_hint(20)["loss"] == (2.0, 10)
    assert storage.history("loss").global_avg() == 4.5


def test_wandb_gets_new_scalars_once(monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("end")
    )

    def init(**arguments):
        calls.append(arguments)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    cfg = get_config("common/train.py")
    writer = WandbWriter(cfg)
    assert calls.pop()["config"]["max_iter"] == 90000
    with EventStorage(5) as storage:
        storage.put_scalar("loss", 2.0)
        writer.write()
        writer.write()
        storage.iter = 6
        storage.put_scalar("lr", 0.5, smoothing_hint=False)
        writer.write()
    writer.close()
    assert calls == [(5, {"loss": 2.0}), (6, {"lr": 0.5}), "end"]
