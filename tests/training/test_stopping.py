import signal

import pytest

from mprnet.training.stopping import StopSignals, WaitInterrupted, list_stop_signals


@pytest.fixture
def handlers():
    """The handlers that a run finds: those of a program in a terminal. Later, those of the tests are set again."""
    before = {number: signal.getsignal(number) for number in list_stop_signals()}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_the_first_signal_is_remembered(handlers, name):
    number = getattr(signal, name)
    with StopSignals() as signals:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
    assert signals.number == number
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_terminal_that_closes_does_not_stop_a_run_under_nohup(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.number is None
        signal.raise_signal(signal.SIGTERM)
        assert signals.number == signal.SIGTERM


def test_a_signal_interrupts_the_wait_for_data(handlers):
    with StopSignals() as signals:
        with pytest.raises(WaitInterrupted), signals.interrupt():
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(WaitInterrupted), signals.interrupt():
            pytest.fail("the run waited, although a signal had come")
