"""The waits of a fault run are those of each command, and only those without a fault in force."""

from tests.faults.waits import Waited, Waits


def test_one_command_that_stands_still_is_found_among_others_that_get_on() -> None:
    waits = Waits()
    waits.sign("a", "published", 0)
    waits.sign("b", "published", 0)
    for second in range(100):
        waits.sign("b", "drained", second)
        waits.look(second, is_quiet=True)
    assert waits.longest == Waited(99, "a", "published")


def test_a_fault_begins_the_time_anew_and_an_end_ends_it() -> None:
    waits = Waits()
    waits.sign("a", "claimed", 0)
    waits.look(0, is_quiet=True)
    waits.look(20, is_quiet=True)
    waits.look(25, is_quiet=False)
    waits.look(50, is_quiet=False)
    waits.look(51, is_quiet=True)
    waits.look(60, is_quiet=True)
    assert waits.longest.seconds == 20
    waits.ended("a")
    waits.look(1_000, is_quiet=True)
    assert waits.longest.seconds == 20
