#!/usr/bin/env python3
"""Builds tests/embed/program.cpp in a folder of its own and runs it, in one of three ways:
as a meson project with sluice as its subproject, against an installed sluice by pkg-config, or by
CMake's find_package. Exits 77 (skip) when the tool of that way is missing.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

EXPECTED = 'write: No space left on device (ENOSPC) in embed'

MESON_PROJECT = """
project('host', 'cpp', default_options: ['cpp_std=none'])
add_project_arguments('-std=c++23', language: 'cpp')
executable('host', 'program.cpp', dependencies: subproject('sluice').get_variable('sluice_dep'))
"""

CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(host CXX)
find_package(sluice 0.1 REQUIRED)
add_executable(host program.cpp)
target_link_libraries(host PRIVATE sluice::sluice)
"""


def run(command, **options):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f'{shlex.join(command)}\n{done.stdout}\nexit code {done.returncode}')
    return done.stdout.strip()


def skip_without(tool):
    if shutil.which(tool) is None:
        print(f'skipped: no {tool} here')
        sys.exit(77)


def compiler():
    return shlex.split(os.environ.get('CXX', 'g++'))


def sanitizer_flags(arguments):
    """A library built with sanitizers links only into a program that has them too."""
    return [] if arguments.sanitize == 'none' else [f'-fsanitize={arguments.sanitize}']


def by_subproject(arguments, host):
    skip_without('meson')
    sluice = host / 'subprojects' / 'sluice'
    sluice.mkdir(parents=True)
    for name in ('meson.build', 'include', 'src', 'cmake'):  # what a release must hold to be built
        (sluice / name).symlink_to(arguments.source / name)
    (host / 'meson.build').write_text(MESON_PROJECT)
    # Unoptimized: only that it builds is of interest, and every source is compiled once more.
    # A warning of some compiler is the business of the library's own build.
    run(['meson', 'setup', '-Doptimization=0', '-Ddebug=false', '-Dsluice:werror=false',
         host / 'build', host])
    run(['ninja', '-C', host / 'build', '-j', '2', 'host'])
    return host / 'build' / 'host'


def install(arguments, host):
    """The build folder installed below `host`; where its prefix is there."""
    staging = host / 'staging'
    run(['meson', 'install', '-C', arguments.build, '--no-rebuild', '--destdir', staging])
    return staging / arguments.prefix.lstrip('/')


def by_pkg_config(arguments, host):
    skip_without('pkg-config')
    prefix = install(arguments, host)
    found = list(prefix.rglob('sluice.pc'))
    if len(found) != 1:
        sys.exit(f'sluice.pc: expected one below the prefix, found {found}')
    environment = {**os.environ, 'PKG_CONFIG_PATH': str(found[0].parent)}
    flags = shlex.split(run(['pkg-config', f'--define-variable=prefix={prefix}', '--cflags',
                             '--libs', 'sluice'], env=environment))
    program = host / 'host'
    run([*compiler(), '-std=c++23', *sanitizer_flags(arguments), host / 'program.cpp', '-o',
         program, *flags])
    return program


def by_cmake(arguments, host):
    skip_without('cmake')
    prefix = install(arguments, host)
    (host / 'CMakeLists.txt').write_text(CMAKE_PROJECT)
    run(['cmake', '-S', host, '-B', host / 'build', f'-DCMAKE_PREFIX_PATH={prefix}',
         f'-DCMAKE_CXX_COMPILER={compiler()[-1]}',
         '-DCMAKE_CXX_FLAGS=' + ' '.join(sanitizer_flags(arguments))])
    run(['cmake', '--build', host / 'build'])
    return host / 'build' / 'host'


WAYS = {'subproject': by_subproject, 'pkg_config': by_pkg_config, 'cmake': by_cmake}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('way', choices=WAYS)
    parser.add_argument('--source', type=pathlib.Path, required=True)
    parser.add_argument('--build', type=pathlib.Path, required=True)
    parser.add_argument('--prefix', required=True)
    parser.add_argument('--sanitize', default='none')
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix='sluice-embed-') as folder:
        host = pathlib.Path(folder)
        shutil.copy(pathlib.Path(__file__).with_name('program.cpp'), host)
        printed = run([WAYS[arguments.way](arguments, host)])
    if printed != EXPECTED:
        sys.exit(f'the program printed {printed!r}, expected {EXPECTED!r}')


if __name__ == '__main__':
    main()
