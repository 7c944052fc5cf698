"""Plans of a sequence are made once, ahead of their step, and dropped when there are too many."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csr_array

from basinet.sim.agents.messages.plans import Plans

MATRICES = [csr_array(np.full((2, 2), float(n + 1))) for n in range(12)]


def planner(matrices, **kept):
    made = []

    def make(weights):
        made.append((int(weights[0, 0]) - 1, threading.current_thread()))
        return made[-1][0]

    return made, Plans(matrices, make, ThreadPoolExecutor(1), **kept)


def test_each_plan_is_that_of_its_step_and_the_next_ones_are_made_ahead_in_a_thread_of_their_own():
    made, plans = planner(MATRICES)
    assert [plans.at(step) for step in range(36)] == 3 * list(range(12))
    assert [number for number, _ in made] == list(range(12)), "each once"
    assert threading.main_thread() not in {thread for _, thread in made}
    made, plans = planner(MATRICES)
    plans.at(7)
    plans.at(11)  # waits for all before it
    assert [number for number, _ in made][:5] == [7, 8, 9, 10, 11]


def test_few_plans_of_a_long_sequence_are_kept():
    made, plans = planner(MATRICES, entries=25, copies=1.0)  # five of five numbers
    assert [plans.at(step) for step in range(24)] == 2 * list(range(12))
    assert [number for number, _ in made] == [*range(12), *range(12), 0, 1, 2, 3][: len(made)] and len(made) >= 24
    _, plans = planner(MATRICES, entries=0)  # those of the next steps at least, and wherever a run goes on
    assert [plans.at(step) for step in (3, 2, 3, 11, 4)] == [3, 2, 3, 11, 4]
    made, plans = planner(MATRICES[:1])
    assert plans.at(3) == plans.at(4) == 0 and made == [(0, threading.current_thread())]
