#!/usr/bin/env python3
"""End-to-end tests of sluiced: real sockets, real files, and peers that behave badly.

  e2e.py --server build/sluiced --backend ring|pool [CASE...]

Prints a line for each case that failed or was skipped, with the request and the answer. Exits with
77 when the backend is not to be had here.
"""

import argparse
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import cases_abuse  # noqa: E402,F401  (importing registers the cases)
import cases_digests  # noqa: E402,F401
import cases_limits  # noqa: E402,F401
import cases_protocol  # noqa: E402,F401
import cases_system  # noqa: E402,F401
import cases_transfer  # noqa: E402,F401
from harness import Bench, Failed, Server  # noqa: E402

from case_runner import CASES, STATUS_SKIPPED, chosen, conclude, run_case  # noqa: E402


def start_shared(program, backend, folder):
    root = os.path.join(folder, 'shared')
    os.mkdir(root)
    try:
        return Server(program, root, [f'sluice.backend={backend}'])
    except Failed as failure:
        if backend == 'ring' and 'cannot start an engine' in str(failure):
            print(f'skipped: no ring here: {failure}')
            sys.exit(STATUS_SKIPPED)
        raise


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--server', required=True)
    parser.add_argument('--backend', choices=['ring', 'pool'], required=True)
    parser.add_argument('cases', nargs='*', help='only cases whose name contains one of these')
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix='sluiced-e2e-')
    os.chmod(folder, 0o755)
    # A copy, because one case runs it as a user who may not reach the build folder.
    program = shutil.copy(arguments.server, os.path.join(folder, 'sluiced'))
    results = []
    try:
        shared = start_shared(program, arguments.backend, folder)
        for function in chosen(CASES, arguments.cases):
            if shared.process.poll() is not None:
                print(f'FAILED: the shared server is gone: {shared.messages()}')
                results.append('failed')
                break
            results.append(run_case(function, Bench(program, arguments.backend, folder, shared)))
        if shared.process.poll() is None:
            shared.stop()
        sys.stdout.write(shared.messages())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return conclude(results, arguments.backend)


if __name__ == '__main__':
    sys.exit(main())
