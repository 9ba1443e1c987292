"""Memory and time: what is refused, and how the minutes of a run are shared."""

import sys
import time
from itertools import pairwise

import pytest

from joanna.errors import UserError
from joanna.resources import TimeBudget, check_memory, generation_seconds, memory_available, memory_needed
from joanna.run import TRAININGS, Training
from joanna.settings import load

BEGAN = 1000.0  # of the simulated runs


class SimulatedRun:
    """A run whose overhead, all but training, takes `pace` times as long as expected."""

    def __init__(self, settings, pace=1.0):
        self.settings, self.pace, self.now = settings, pace, BEGAN
        budget = TimeBudget(settings, self.clock)
        left = [budget.overhead_seconds(index) for index in range(-1, len(TRAININGS))]
        self.before, self.after = [early - late for early, late in pairwise(left)], left[-1]

    def clock(self):
        return self.now

    def train(self, index, slip=1.0):
        """Seconds given to the next training, which takes `slip` times as long."""
        overhead = self.before[index]
        if index in (0, 2):  # the first of a stage; a part of the overhead is the end of the stage before
            probe = TimeBudget(self.settings, self.clock)
            probe.seconds_for(TRAININGS[index])
            overhead = probe.overheads[index][1]
            self.now += self.pace * (self.before[index] - overhead)
            self.budget = TimeBudget(self.settings, self.clock)
        self.now += self.pace * overhead
        seconds = self.budget.seconds_for(TRAININGS[index])
        self.now += slip * seconds
        self.budget.epoch_finished(TRAININGS[index])
        return seconds


@pytest.fixture
def whole_run(monkeypatch):
    """The stages belong to a run that began at BEGAN."""
    monkeypatch.setenv("JOANNA_BEGAN", str(BEGAN))


@pytest.mark.usefixtures("whole_run")
@pytest.mark.parametrize(("pace", "slip"), [(0.4, 1.0), (1.0, 1.0), (1.6, 1.0), (1.0, 0.93), (1.0, 1.07)])
@pytest.mark.parametrize(("minutes", "least"), [(5, 1), (30, 90), (120, 300)])
def test_the_trainings_and_the_rest_fill_the_minutes(minutes, least, pace, slip):
    run = SimulatedRun(load(["demo", f"minutes={minutes}", "phase-method=follow"]), pace)
    seconds = [run.train(index, slip) for index in range(len(TRAININGS))]
    # time saved is not spent again; time lost is
    total = run.now + pace * run.after - BEGAN
    assert total == pytest.approx(60 * minutes, rel=0.03 if slip >= 1 else 0.08)
    assert min(seconds) > least
    # the phase generator gets less, because phases follow the song
    assert seconds[3] < 0.5 * min(seconds[:3]) < max(seconds[:3]) < 1.25 * seconds[5]


@pytest.mark.usefixtures("whole_run")
def test_the_phase_generator_gets_its_share_if_the_phase_method_uses_it():
    def given(*words):
        run = SimulatedRun(load(["demo", "minutes=30", *words]))
        run.train(2)
        return run.train(3)

    assert given() > 2 * given("phase-method=follow")


@pytest.mark.usefixtures("whole_run")
def test_time_lost_is_shared_by_the_following_trainings(monkeypatch):
    run = SimulatedRun(load(["demo", "minutes=30"]))
    early = run.train(2)
    run.now = BEGAN + 1200
    assert 0 < run.budget.seconds_for(TRAININGS[2]) < 0.7 * early
    run.now = BEGAN + 9000
    assert run.budget.seconds_for(TRAININGS[2]) == 0
    monkeypatch.delenv("JOANNA_BEGAN")  # a script that runs alone takes its own share
    assert 0 < SimulatedRun(run.settings).train(0) < 600


@pytest.mark.usefixtures("whole_run")
def test_a_resumed_run_does_not_get_its_minutes_again():
    budget = TimeBudget(load(["demo", "minutes=30"]), lambda: BEGAN)
    # no time passes: the run before did all trainings but the current one
    assert 25 * 60 < sum(budget.seconds_for(training) for training in TRAININGS) < 30 * 60


def test_the_minutes_count_on_a_clock_that_never_jumps(monkeypatch):
    monkeypatch.setenv("JOANNA_BEGAN", str(time.monotonic() - 60))  # as pipeline.py does
    budget = TimeBudget(load(["demo", "minutes=30"]))
    assert 28 * 60 < budget.run_left(TRAININGS[0], 0.0, 1.0) <= 29 * 60


def test_only_the_first_stage_that_trains_imports_tensorflow(monkeypatch):
    def overhead():
        return TimeBudget(load(["demo", "minutes=30"])).overhead_seconds()

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    later = overhead()
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert overhead() > later


def test_wide_frames_give_their_time_to_the_autoencoders():
    def shares(*words):
        budget = TimeBudget(load(["demo", "minutes=60", *words]))
        seconds = [budget.run_left(training, 0.0, 1.0) for training in TRAININGS]
        return [earlier - later for earlier, later in pairwise(seconds)]  # of the trainings after the first

    def left(*words):
        return TimeBudget(load(["demo", *words])).run_left(TRAININGS[2], 0.0, 1.0)

    assert shares("frame-length=5632", "dim-decrease=auto")[0] > 1.5 * shares()[0]
    assert left("frame-length=5632", "dim-decrease=auto") < left()


def test_longer_clips_and_more_of_them_leave_less_for_training():
    def seconds(*words):
        return generation_seconds(load(["demo", *words]))

    for word in ("takes=3", "generate-seconds=60", "phase-method=all", "sequence-lengths=[12,24,48]"):
        assert seconds(word) > seconds(), word


def test_time_left_for_the_run_counts_the_following_trainings(monkeypatch):
    monkeypatch.delenv("JOANNA_BEGAN", raising=False)

    def left(component, kind, *words):
        budget = TimeBudget(load(["demo", *words]))
        return budget.run_left(Training(component, kind), 10.0, 0.5)

    # the last training of a script that runs alone
    assert left("magnitude", "autoencoder") == left("magnitude", "generator") == 10
    alone, epochs = left("phase", "autoencoder"), Training("phase", "autoencoder").epochs(load(["demo"]))
    # as many epochs of the same kind, and a few seconds around them
    assert 10 + 0.5 * epochs <= alone < 20 + 0.5 * epochs
    assert left("phase", "spliced", "lstm-epoch=640") > 1.5 * left("phase", "spliced")
    monkeypatch.setenv("JOANNA_BEGAN", str(time.monotonic() - 3600))
    assert left("phase", "autoencoder") > 3 * alone
    assert left("magnitude", "generator") > 15  # generating follows
    assert left("phase", "autoencoder", "minutes=30") == 10  # the time is over


def test_settings_beyond_any_memory_are_refused_with_advice():
    huge = ["frame-length=65536", "layer-count=1", "dim-decrease=0"]  # LSTM layers of 550 GB
    with pytest.raises(UserError, match=r"training with .* GB are free: lower frame-length"):
        check_memory(load(huge), "training", 300)
    endless = ["generate-seconds=86400", "takes=100", "phase-method=all"]
    with pytest.raises(UserError, match=r"generating with .* GB are free: lower generate-seconds"):
        check_memory(load(endless), "generating", 300)
    check_memory(load(["frame-length=64", "dim-decrease=8"]), "training", 300)


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage", "prefix"),
    [
        ("0::/user.slice/job", "sys/fs/cgroup", "memory.max", "memory.current", ""),
        (
            "4:cpu,memory:/user.slice/job",
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_",
        ),
    ],
)
def test_a_containers_limit_counts_without_its_cache(tmp_path, line, folder, limit, usage, prefix):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")

    write("proc/meminfo", "MemFree: 9 kB\nMemAvailable: 5000 kB")
    write("proc/self/cgroup", f"{line}\n7:cpuset:/")
    assert memory_available(tmp_path) == 5120000
    job = f"{folder}/user.slice/job"
    write(f"{job}/{limit}", "9000000")
    write(f"{job}/{usage}", "8000000")
    assert memory_available(tmp_path) == 1000000
    write(f"{job}/memory.stat", f"{prefix}inactive_file 500000\n{prefix}active_file 200000\nanon 7000000")
    assert memory_available(tmp_path) == 1700000
    write(f"{folder}/user.slice/{limit}", "9000000")  # of the group around it
    write(f"{folder}/user.slice/{usage}", "8500000")
    assert memory_available(tmp_path) == 500000
    for group in (job, f"{folder}/user.slice"):
        write(f"{group}/{limit}", "max")
    assert memory_available(tmp_path) == 5120000
    # what the process has taken, it may use: the stage before freed it
    write("proc/self/status", "Name:\tpython\nRssAnon:\t 1000 kB")
    assert memory_available(tmp_path) == 6144000


def test_the_estimate_grows_with_what_takes_memory():
    def need(work, *words, frames=1400):
        return memory_needed(load(["seed", *words]), work, frames)

    # measured at the default widths: 1.8 GB
    assert 2e9 < need("training") < 3e9
    for word in ("dim-decrease=100", "lstm-layers=4", "window-batch=64", "window-length=96"):
        assert need("training", word) > need("training"), word
    for word in ("generate-seconds=100", "takes=3", "phase-method=all", "sequence-lengths=[8,16,24]"):
        assert need("generating", word) > need("generating"), word
    for work in ("training", "generating"):
        assert need(work, frames=28000) > need(work) + 1e9
