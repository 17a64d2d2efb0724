"""Cases of end-to-end tests in python: functions that take a bench, run one after the other.

A bench has `cleanup`, a contextlib.ExitStack that ends what its case has begun.
"""

import time
import traceback

WAIT_S = 40  # for what must happen soon; generous, because sanitizers slow the programs down
STATUS_SKIPPED = 77  # as meson wants it

CASES = []


def case(function):
    CASES.append(function)
    return function


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def wait_until(condition, what, seconds=WAIT_S):
    """Polls until it is True; its last value is part of the complaint."""
    end = time.monotonic() + seconds
    while (value := condition()) is not True:
        if time.monotonic() > end:
            raise Failed(f'{what}: not within {seconds} s, but {value!r}')
        time.sleep(0.01)


def chosen(cases, words):
    """Those whose name contains one of the words; all when there are none."""
    return [function for function in cases
            if not words or any(word in function.__name__ for word in words)]


def run_case(function, bench):
    """passed, failed or skipped; says why for the last two."""
    name = function.__name__
    began = time.monotonic()
    try:
        with bench.cleanup:
            function(bench)
    except Skipped as reason:
        print(f'skip: {name}: {reason}', flush=True)
        return 'skipped'
    except Failed as failure:
        print(f'FAILED {name}: {failure}', flush=True)
        return 'failed'
    except Exception:  # a defect of the test is a failure too
        print(f'FAILED {name}:\n{traceback.format_exc()}', flush=True)
        return 'failed'
    print(f'passed {name} ({time.monotonic() - began:.1f} s)', flush=True)
    return 'passed'


def conclude(results, name):
    """A line with the counts; the exit status."""
    counts = {kind: results.count(kind) for kind in ('passed', 'failed', 'skipped')}
    print(f"{name}: {counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped")
    if counts['failed'] or not results:
        return 1
    return 0 if counts['passed'] else STATUS_SKIPPED
