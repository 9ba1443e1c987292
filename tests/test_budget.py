import time

import numpy as np
import pytest
from test_training import Memory, _batches, _network

from joanna import budget, settings, training

TRAININGS = [("phase", "autoencoder"), ("magnitude", "autoencoder"), ("phase", "spliced")]
TRAININGS += [("phase", "new"), ("magnitude", "spliced"), ("magnitude", "new")]


def test_the_trainings_and_the_rest_fill_the_minutes(monkeypatch):
    chosen = settings.load(["demo", "minutes=30"])
    elapsed, given = 0.0, []
    for component, name in TRAININGS:
        # what is reserved for stages and trainings passes as reserved, what is given is used up
        now = 30 * 60 - budget._reserved(chosen, TRAININGS.index((component, name)))
        left = now - sum(given)
        monkeypatch.setenv("JOANNA_BEGAN", str(time.time() - (30 * 60 - left - (30 * 60 - now))))
        given.append(budget.seconds_for(chosen, component, name))
        elapsed += given[-1]
    assert all(seconds > 60 for seconds in given)
    reserved = budget._reserved(chosen, 0)
    assert elapsed + reserved == pytest.approx(30 * 60, rel=0.02)
    assert given[0] == pytest.approx(given[1], rel=0.02)


def test_time_lost_is_shared_by_what_comes_after(monkeypatch):
    chosen = settings.load(["demo", "minutes=30"])
    monkeypatch.setenv("JOANNA_BEGAN", str(time.time() - 600))
    early = budget.seconds_for(chosen, "phase", "spliced")
    monkeypatch.setenv("JOANNA_BEGAN", str(time.time() - 1200))
    assert 0 < budget.seconds_for(chosen, "phase", "spliced") < 0.7 * early
    monkeypatch.setenv("JOANNA_BEGAN", str(time.time() - 9999))
    assert budget.seconds_for(chosen, "phase", "spliced") == 0
    # a script that is run alone takes its own share
    monkeypatch.delenv("JOANNA_BEGAN")
    assert budget.seconds_for(chosen, "phase", "autoencoder") < 600


def test_a_run_that_goes_on_does_not_get_its_minutes_again(monkeypatch):
    chosen = settings.load(["demo", "minutes=30"])
    monkeypatch.setenv("JOANNA_BEGAN", str(time.time()))
    shares = [budget.seconds_for(chosen, component, name) for component, name in TRAININGS]
    assert sum(shares) + budget._reserved(chosen, 0) == pytest.approx(30 * 60, rel=0.01)


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
