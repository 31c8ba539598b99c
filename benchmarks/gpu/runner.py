"""Running the checks one after the other, within some minutes, and noting each result at once."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu.checks import Check
from benchmarks.gpu.goals import goals_of
from benchmarks.gpu.worker import Died, Worker
from detrex.utils.errors import InputError
from detrex.utils.files import atomic_write

START_LIMIT = 150.0  # seconds to load the libraries
RESULTS, TABLE, LOG = "results.json", "results.md", "log.txt"


class Results:
    """What is known of a machine, in files of a folder.

    Raises:
        InputError: the file in the folder is no results file.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.table = folder / RESULTS, folder / TABLE
        today = datetime.date.today().isoformat()
        self.content = {"date": today, "machine": None, "checks": {}, "goals": []}
        if self.path.exists():
            self.content = read(self.path)

    def check_machine(self, facts: dict) -> None:
        """Note this machine.

        Raises:
            InputError: the results are of another one.
        """
        machine = {key: facts[key] for key in ("device", "torch")}
        if self.checks and self.content["machine"] != machine:
            raise InputError(
                f"{self.path} is of {self.content['machine']}, this is {machine}: "
                "name another --output"
            )
        self.content["machine"] = machine

    @property
    def checks(self) -> dict[str, dict]:
        """Outcomes by the check's name."""
        return self.content["checks"]

    def add(self, name: str, outcome: dict) -> None:
        """Note an outcome; the files are complete at any time."""
        self.checks[name] = outcome
        self.content["goals"] = goals_of(self.checks)
        with atomic_write(self.path) as file:
            json.dump(self.content, file, indent=1)
            file.write("\n")
        with atomic_write(self.table) as file:
            file.write(self.text())

    def text(self) -> str:
        """As Markdown tables: the goals, and every check."""
        machine, date = self.content["machine"], self.content["date"]
        lines = [f"{machine['device']}, torch {machine['torch']}, {date}", ""]
        if self.content["goals"]:
            lines += ["| goal | measured | wanted | |", "|---|---|---|---|"]
            for goal in self.content["goals"]:
                met = "met" if goal["met"] else "missed"
                lines.append(f"| {goal['what']} | {goal['value']} | {goal['goal']} | {met} |")
            lines.append("")
        lines += ["| check | result | figures | seconds |", "|---|---|---|---|"]
        for name, outcome in self.checks.items():
            figure = outcome["figure"].replace("|", "/")
            lines.append(f"| {name} | {outcome['status']} | {figure} | {outcome['seconds']:.1f} |")
        return "\n".join([*lines, ""])


def read(path: Path) -> dict:
    """
    Raises:
        InputError: not a results file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        outcomes = content["checks"].values()
        sound = all({"status", "figure", "seconds"} <= outcome.keys() for outcome in outcomes)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound or not {"machine", "goals", "date"} <= content.keys():
        raise InputError(f"{path} is no results file of this command: name another --output")
    return content


class Bench:
    """A worker that is always there: a new one replaces one that died or may be unusable."""

    def __init__(self, device: str, log: Path, seconds: float) -> None:
        self._device, self._log = device, log
        self._deadline = time.monotonic() + seconds
        self._worker: Worker | None = None
        self.facts = self._start().facts

    def run(self, check: Check) -> dict:
        """The check's outcome; "not reached" where the time for all is over before its own."""
        if lacks := self._missing(check):
            return {"status": "skipped", "figure": lacks, "rows": [], "seconds": 0.0}
        start = time.monotonic()
        left = self._deadline - start
        if left <= 0:
            return {"status": "not reached", "figure": "", "seconds": 0.0}
        try:
            outcome = (self._worker or self._start()).run(check, min(check.limit, left))
        except Died as error:
            late = time.monotonic() >= self._deadline
            outcome = {"status": "not reached" if late else "failed", "figure": str(error)}
            outcome |= {"rows": [], "seconds": time.monotonic() - start, "broken": True}
        if outcome.pop("broken"):
            self.end()
        return outcome

    def _missing(self, check: Check) -> str:
        """What this machine lacks for a check."""
        if self._device == "cpu":
            return "" if check.cpu else "needs a GPU"
        return f"needs {check.gpus} GPUs" if check.gpus > self.facts["gpus"] else ""

    def _start(self) -> Worker:
        """
        Raises:
            InputError: the libraries cannot be loaded, or there is no GPU.
        """
        try:
            self._worker = Worker(self._device, self._log, START_LIMIT)
        except Died as error:
            raise InputError(f"the checks cannot start: {error}; see {self._log}") from error
        if error := self._worker.facts.get("error"):
            self.end()
            raise InputError(f"the checks cannot start: {error}; see {self._log}")
        if self._device == "cuda" and not self._worker.facts["gpus"]:
            self.end()
            raise InputError("--device cuda: PyTorch sees no GPU; --device cpu tries the checks")
        return self._worker

    def end(self) -> None:
        """End the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


def run_checks(
    checks: Sequence[Check],
    device: str,
    folder: Path,
    seconds: float,
    retry: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Results, int]:
    """Run what has no result yet, while the time lasts; return the results and how many checks have
    none.

    Args:
        checks: in this order.
        device: "cuda" or "cpu".
        folder: of the files; made where it is missing.
        seconds: for all, from now on.
        retry: run failed checks again.
        say: is given a line for each check.

    Raises:
        InputError: no GPU, libraries that cannot be loaded, or results of another machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results, missed, bench = Results(folder), 0, None
    try:
        for check in checks:
            outcome = results.checks.get(check.name)
            done = outcome and not (retry and outcome["status"] == "failed")
            if not done:
                if bench is None:
                    bench = Bench(device, folder / LOG, seconds)
                    results.check_machine(bench.facts)
                outcome = bench.run(check)
            if outcome["status"] == "not reached":
                missed += 1
            elif not done:
                results.add(check.name, outcome)
            say(line(check.name, outcome, "done before" if done else ""))
    finally:
        if bench is not None:
            bench.end()
    return results, missed


def line(name: str, outcome: dict, note: str = "") -> str:
    """One check as a line of text."""
    taken = note or f"{outcome['seconds']:.1f} s"
    return f"{outcome['status']:<11} {name:<34} {taken:>11}  {outcome['figure']}".rstrip()
