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

sys.dont_write_bytecode = True

import cases_blame  # noqa: E402,F401  (importing registers the cases)
import cases_direct  # noqa: E402,F401
import cases_disk  # noqa: E402,F401
import cases_faults  # noqa: E402,F401
import cases_get  # noqa: E402,F401
import cases_large  # noqa: E402,F401
import cases_pads  # noqa: E402,F401
import cases_program  # noqa: E402,F401
import cases_seed  # noqa: E402,F401
from harness import LARGE_CASES, Bench  # noqa: E402

from case_runner import CASES, chosen, conclude, run_case  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', required=True)
    parser.add_argument('--backend', choices=['ring', 'pool'], required=True)
    parser.add_argument('--fault-fs', help='the program of tests/support/fault_fs_main.cpp')
    parser.add_argument('--large', type=float, metavar='GIB', help='only the large cases')
    parser.add_argument('--runs', type=int, default=1, help='of each of those')
    parser.add_argument('--piece-bytes', type=int, default=1 << 20, help='of those')
    parser.add_argument('--dir', help='where to work (default: the folder for temporary files)')
    parser.add_argument('cases', nargs='*', help='only cases whose name contains one of these')
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix='sluice-bt-e2e-', dir=arguments.dir)
    results = []
    try:
        for function in chosen(LARGE_CASES if arguments.large else CASES, arguments.cases):
            bench = Bench(arguments.program, arguments.backend, folder)
            bench.fault_fs = arguments.fault_fs
            bench.large_bytes = int((arguments.large or 0) * (1 << 30))
            bench.large_runs, bench.large_piece_bytes = arguments.runs, arguments.piece_bytes
            bench.folder = bench.folder / function.__name__
            bench.folder.mkdir()
            results.append(run_case(function, bench))
            shutil.rmtree(bench.folder, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return conclude(results, arguments.backend)


if __name__ == '__main__':
    sys.exit(main())
