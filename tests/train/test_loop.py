"""What happens when in a training run, and users' hooks in it."""

import json
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import EventWriter

from detrex.train.preemption import PREEMPTED, Preemption
from detrex.train.trainer import StepOptions, Trainer
from detrex.utils.errors import InputError
from tests.train.runs import CONFIG
from tests.train.test_trainer import batches
from tests.train.tiny import TinyDetector


class Log(HookBase, EventWriter):
    """Notes what a trainer does, with the iteration: as hook, writer and keeper of the best."""

    def __init__(self):
        self.events = []

    def note(self, what):
        self.events.append(f"{what} {self.trainer.iter}")

    def before_train(self):
        self.note("start")

    def before_step(self):
        self.note(f"matcher {self.trainer.network.matcher.iter}, before step")

    def after_step(self):
        assert "lr" in self.trainer.storage.latest()
        self.note("after step")

    def after_train(self):
        self.note("end")

    def write(self):
        self.note("write")

    def close(self):
        self.note("close")

    def keep(self, storage):
        if storage.latest().get("bbox/AP", (0, -1))[1] == self.trainer.iter:
            self.note("best")

    def evaluate(self, trainer):
        self.note("evaluate")
        return {"bbox/AP": 1.0}


class Stop(Preemption):
    """Is asked to stop in this iteration."""

    def __init__(self, log, iteration):
        super().__init__()
        self.log, self.iteration = log, iteration

    def end_step(self):
        self.stopping = self.log.trainer.iter == self.iteration


class Rates:
    main = 0.1

    def step(self):
        pass


def events(start, end, stop=None, **periods):
    """What happens in the iterations from ``start`` to ``end``."""
    model, log = TinyDetector(), Log()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, batches(2), optimizer, StepOptions(**periods))
    trainer.register_hooks([log])
    trainer.writers, trainer.keep_best, trainer.evaluate = [log], log.keep, log.evaluate
    trainer.learning_rates, trainer.preemption = Rates(), Stop(log, stop)
    trainer.save = lambda name: log.note(f"save {name}")
    trainer.first_step_made = lambda: log.note("first step")
    try:
        trainer.train(start, end)
    except SystemExit as error:
        log.note(f"status {error.code}")
    return log.events


def step(i, *others, first=False):
    begin = [f"matcher {i}, before step {i}", f"after step {i}"]
    return [*begin, *(f"{what} {i}" for what in others), *[f"first step {i}"] * first]


def test_order_of_a_run():
    assert events(0, 5, log_period=3, checkpoint_period=2, eval_period=3) == [
        "start 0",
        *step(0, first=True),
        *step(1, "save model_0000001"),
        *step(2, "write", "save model_latest"),
        *("evaluate 3", "best 3"),
        *step(3, "write", "save model_0000003"),  # scores are written with the next step
        *step(4, "write", "save model_final"),
        *("evaluate 5", "best 5", "end 5", "write 5", "close 5"),
    ]


def test_a_resumed_run_starts_with_the_evaluation_that_was_missed():
    periods = dict(log_period=9, checkpoint_period=0, eval_period=3)
    assert events(3, 5, **periods) == [
        *("start 3", "evaluate 3", "best 3"),
        *step(3, "write", first=True),
        *step(4, "write", "save model_final"),
        *("evaluate 5", "best 5", "end 5", "write 5", "close 5"),
    ]
    finished = ["start 5", "evaluate 5", "best 5", "end 5", "write 5", "close 5"]
    assert events(5, 5, **periods) == finished


@pytest.mark.parametrize(
    ("stop", "name"), [(1, "model_0000001"), (2, "model_latest"), (4, "model_final")]
)
def test_a_run_that_is_asked_to_stop_saves_and_leaves(stop, name):
    log = events(0, 5, stop, log_period=20, checkpoint_period=2, eval_period=3)
    write = ["write"] * (stop == 4)
    expected = step(stop, *write, "close", f"save {name}", f"status {PREEMPTED}")
    assert log[-len(expected) :] == expected


def test_a_period_of_zero_is_the_end_alone():
    log = events(0, 4, log_period=20, checkpoint_period=0, eval_period=0)
    done = [event for event in log if event.split()[0] in ("save", "evaluate", "best")]
    assert done == ["save model_final 3", "evaluate 4", "best 4"]


def test_a_trainer_alone_makes_steps_only():
    model = TinyDetector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, batches(2), optimizer, StepOptions(eval_period=1, checkpoint_period=1))
    trainer.train(0, 3)
    assert model.matcher.seen == [0, 1, 2]


class Steps(HookBase):
    """Counts the steps of a run, and logs how many."""

    def __init__(self, name, first=0):
        if first < 0:
            raise ValueError(f"first is {first}")
        self.name, self.steps = name, first

    def after_step(self):
        self.steps += 1
        self.trainer.storage.put_scalar(self.name, self.steps, smoothing_hint=False)

    def after_train(self):
        self.trainer.storage.put_scalar("last", self.steps)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def config(folder, *values):
    path = folder / "config.py"
    path.write_text(
        f"{CONFIG.read_text()}\n"
        "from detectron2.engine import hooks\n"
        f"from {__name__} import Steps\n"
        f"train.hooks = [{', '.join(values)}]\n"
    )
    return ["--config-file", str(path)]


def test_hooks_of_a_config_log_and_are_resumed(tiny_run, tmp_path):
    given = config(tmp_path, 'L(Steps)(name="mine", first=10)', "L(hooks.IterationTimer)()")
    for end in (3, 6):
        tiny_run("a", *given, f"train.max_iter={end}", "--resume")
    lines = [json.loads(line) for line in (tiny_run.folder / "a/metrics.json").open()]
    steps = [(line["iteration"], line["mine"]) for line in lines if "mine" in line]
    assert steps == [(1, 12), (2, 13), (3, 14), (5, 16)]
    assert [line["last"] for line in lines if "last" in line] == [13, 16]
    state = tiny_run.checkpoint("a")["trainer"]["hooks"]
    assert state["Steps"] == {"steps": 16} and state["LRScheduler"]["last_epoch"] == 6
    saved = str(tiny_run.folder / "a/config.yaml")
    tiny_run("b", "--config-file", saved, "train.max_iter=2")
    assert tiny_run.checkpoint("b")["trainer"]["hooks"]["Steps"] == {"steps": 12}
    tiny_run("c", "--config-file", saved, "train.hooks=[]", "train.max_iter=2")
    assert "Steps" not in tiny_run.checkpoint("c")["trainer"]["hooks"]


def test_hooks_of_detectron2_evaluate_write_and_keep_the_best():
    log, writer = [], Log()
    model = TinyDetector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, batches(2), optimizer, StepOptions())
    writer.trainer = trainer
    saver = SimpleNamespace(save=lambda name, **more: log.append((name, trainer.iter)))
    trainer.register_hooks(
        [
            hooks.EvalHook(2, lambda: {"bbox": {"AP": float(trainer.iter)}}),
            hooks.BestCheckpointer(2, saver, "bbox/AP"),
            hooks.PeriodicWriter([writer], period=2),
        ]
    )
    trainer.train(0, 4)
    assert log == [("model_best", 1), ("model_best", 4)]
    assert writer.events == ["write 1", "write 3", "write 4", "close 4"]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("5", r"train.hooks\[1\]=5: give hooks"),
        ("Steps", r"train.hooks\[1\]=.*Steps.*: give hooks"),
        ('L(Steps)(name="a", first=-1)', r"train.hooks\[1\] cannot be built: first is -1"),
        ("L(Steps)(nam=1)", r"train.hooks\[1\] cannot be built: .*nam"),
    ],
)
def test_what_is_no_hook_is_named(tiny_run, tmp_path, hook, message):
    given = config(tmp_path, 'L(Steps)(name="a")', hook)
    with pytest.raises(InputError, match=message):
        tiny_run("a", *given)
    assert not (tiny_run.folder / "a/run.json").exists()
