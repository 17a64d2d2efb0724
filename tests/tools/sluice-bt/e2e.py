#!/usr/bin/env python3
"""Tests of sluice-bt with real peers: libtorrent, itself, and peers that behave badly.

  e2e.py --program build/sluice-bt --backend ring|pool [--large GIB [--runs N]] [CASE...]

Prints a line for each case that failed or was skipped. Exits with 77 when the backend or libtorrent
is not to be had here. With --large only the cases for that size are run, which print their rates.
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True

import cases_blame  # noqa: E402,F401  (importing registers the cases)
import cases_direct  # noqa: E402,F401
import cases_faults  # noqa: E402,F401
import cases_get  # noqa: E402,F401
import cases_large  # noqa: E402,F401
import cases_pads  # noqa: E402,F401
import cases_program  # noqa: E402,F401
import cases_seed  # noqa: E402,F401
from harness import CASES, LARGE_CASES, Bench, Failed, Skipped  # noqa: E402


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


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', required=True)
    parser.add_argument('--backend', choices=['ring', 'pool'], required=True)
    parser.add_argument('--large', type=float, metavar='GIB', help='only the large cases')
    parser.add_argument('--runs', type=int, default=1, help='of each of those')
    parser.add_argument('--piece-bytes', type=int, default=1 << 20, help='of those')
    parser.add_argument('--dir', help='where to work (default: the folder for temporary files)')
    parser.add_argument('cases', nargs='*', help='only cases whose name contains one of these')
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix='sluice-bt-e2e-', dir=arguments.dir)
    results = []
    try:
        for function in LARGE_CASES if arguments.large else CASES:
            if arguments.cases and not any(c in function.__name__ for c in arguments.cases):
                continue
            bench = Bench(arguments.program, arguments.backend, folder)
            bench.large_bytes = int((arguments.large or 0) * (1 << 30))
            bench.large_runs, bench.large_piece_bytes = arguments.runs, arguments.piece_bytes
            bench.folder = bench.folder / function.__name__
            bench.folder.mkdir()
            results.append(run_case(function, bench))
            shutil.rmtree(bench.folder, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if 'failed' in results or not results:
        return 1
    return 77 if all(r == 'skipped' for r in results) else 0


if __name__ == '__main__':
    sys.exit(main())
