import time
from types import SimpleNamespace

import numpy as np
import pytest
from test_training import Memory, _batches, _network

from joanna import budget, settings, training

TRAININGS = [("phase", "autoencoder"), ("magnitude", "autoencoder"), ("phase", "spliced")]
TRAININGS += [("phase", "new"), ("magnitude", "spliced"), ("magnitude", "new")]


class Clock:
    """Time as budget sees it, where all but training takes `pace` times as long as foreseen."""

    def __init__(self, monkeypatch, pace=1.0):
        self.now, self.pace, self._patch = 1000.0, pace, monkeypatch
        monkeypatch.setattr(budget, "time", SimpleNamespace(time=lambda: self.now))
        monkeypatch.setenv("JOANNA_BEGAN", "1000")
        self.start()

    def start(self):
        """Another stage, in a process of its own."""
        self._patch.setattr(budget, "_ends", {})
        self._patch.setattr(budget, "_besides", {})
        self._patch.setattr(budget, "_STARTED", self.now)
        self.now += self.pace * budget._STAGE

    def end(self):
        """The stage's end."""
        self.now += self.pace * budget._AFTER

    def train(self, chosen, component, name, slip=1.0):
        """Seconds given to a training that comes now and takes `slip` times as long."""
        place = TRAININGS.index((component, name))
        self.now += self.pace * (budget._INTO[name] if budget._ends else budget._FIRST[place])
        given = budget.seconds_for(chosen, component, name)
        self.now += slip * given
        budget.note_epoch(component, name)
        return given


@pytest.mark.parametrize(
    ("pace", "slip"), [(0.4, 1.0), (1.0, 1.0), (1.6, 1.0), (1.0, 0.93), (1.0, 1.07)]
)
@pytest.mark.parametrize(("minutes", "least"), [(5, 1), (30, 90), (120, 300)])
def test_the_trainings_and_the_rest_fill_the_minutes(monkeypatch, minutes, least, pace, slip):
    chosen, clock, given = settings.load(["demo", f"minutes={minutes}"]), Clock(monkeypatch, pace), []
    for component, name in TRAININGS:
        if (component, name) == ("phase", "spliced"):
            clock.end()
            clock.start()
        given.append(clock.train(chosen, component, name, slip))
    clock.end()
    clock.now += pace * (budget._STAGE + budget.generation_seconds(chosen))
    # time saved is not spent again; time lost is
    assert clock.now - 1000 == pytest.approx(60 * minutes, rel=0.03 if slip >= 1 else 0.08)
    assert all(seconds > least for seconds in given)
    # what is heard gets the most: phases follow the song unless phase-method says otherwise
    assert given[3] < 0.5 * min(given[:3]) < max(given[:3]) < 1.25 * given[5]


def test_the_phase_generator_gets_its_share_where_it_is_heard(monkeypatch):
    def given(*words):
        chosen, clock = settings.load(["demo", "minutes=30", *words]), Clock(monkeypatch)
        clock.train(chosen, "phase", "spliced")
        return clock.train(chosen, "phase", "new")

    assert given("phase-method=network") > 2 * given()


def test_time_lost_is_shared_by_what_comes_after(monkeypatch):
    chosen, clock = settings.load(["demo", "minutes=30"]), Clock(monkeypatch)
    early = clock.train(chosen, "phase", "spliced")
    clock.now = 2200
    assert 0 < budget.seconds_for(chosen, "phase", "spliced") < 0.7 * early
    clock.now = 9999
    assert budget.seconds_for(chosen, "phase", "spliced") == 0
    # a script that is run alone takes its own share
    clock = Clock(monkeypatch)
    monkeypatch.delenv("JOANNA_BEGAN")
    assert 0 < clock.train(chosen, "phase", "autoencoder") < 600


def test_a_run_that_goes_on_does_not_get_its_minutes_again(monkeypatch):
    chosen = settings.load(["demo", "minutes=30"])
    Clock(monkeypatch)
    # no time passes: all before it was done by the run before
    given = [budget.seconds_for(chosen, *training) for training in TRAININGS]
    assert 25 * 60 < sum(given) < 30 * 60


def test_longer_clips_and_more_of_them_leave_less_for_training():
    def generating(*words):
        return budget.generation_seconds(settings.load(["demo", *words]))

    for word in ("takes=3", "generate-seconds=60", "phase-method=all", "sequence-lengths=[12,24,48]"):
        assert generating(word) > generating(), word


def test_as_many_epochs_as_fit_and_no_other_number_when_going_on():
    memory = Memory()
    training.train(_network(), _batches, memory, "test", "test", 5, 5, 0.01, limit=lambda: 0.0)
    assert memory.place["goal"] == memory.place["epochs"] == 1
    memory = Memory()
    network = _network()
    before = [weight.copy() for weight in network.get_weights()]
    measured = training._epochs_within(lambda: 60.0, network, _batches)
    assert measured > 10
    assert all(map(np.array_equal, before, network.get_weights()))  # timing leaves them alone
    memory.place.update(goal=7, epochs=3)
    training.train(network, _batches, memory, "test", "test", 5, 5, 0.01, limit=lambda: 1e6)
    assert memory.place["epochs"] == 7


def test_a_machine_that_gets_slower_does_not_take_longer():
    memory, seconds = Memory(), []

    def slower(epoch):
        if memory.place["goal"]:
            seconds.append(0.02)
            time.sleep(0.02)  # another program has begun to take its share
        return _batches(epoch)

    training.train(_network(), slower, memory, "test", "test", 5, 5, 0.01, limit=lambda: 1.0)
    assert 1 < memory.place["epochs"] == memory.place["goal"] == memory.saved[-1]
    assert memory.place["goal"] <= len(seconds) <= 80
