#!/usr/bin/env python3
"""Builds the README's example in a folder of its own, uploads to it, and checks the file that it
made, in one of three ways:
as a meson project with sluice as its subproject, against an installed sluice by pkg-config, or by
CMake's find_package. Exits 77 (skip) when the tool of that way is missing.
"""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile

UPLOAD_BYTES = 1 << 20  # what the example receives

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
    # Shared, so that a public symbol that is not exported is found here.
    run(['meson', 'setup', '-Doptimization=0', '-Ddebug=false', '-Dsluice:werror=false',
         '-Dsluice:default_library=shared', host / 'build', host])
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


def example_of(readme):
    """The one C++ block of the README: what it shows is what is built."""
    blocks = re.findall(r'```cpp\n(.*?)```', readme.read_text(), re.DOTALL)
    if len(blocks) != 1:
        sys.exit(f'{readme}: expected one C++ example, found {len(blocks)}')
    return blocks[0]


def upload_to(program, host):
    """Runs the example, sends it its upload and compares the file that it published."""
    data = os.urandom(UPLOAD_BYTES)
    with subprocess.Popen([program], cwd=host, stdout=subprocess.PIPE, text=True) as running:
        line = running.stdout.readline()
        if not line.startswith('listening on 127.0.0.1:'):
            sys.exit(f'the program printed {line!r}')
        with socket.create_connection(('127.0.0.1', int(line.rsplit(':', 1)[1]))) as peer:
            peer.sendall(data)
        printed = running.stdout.read()
    if running.returncode != 0 or ', because ' not in printed:
        sys.exit(f'the program exited {running.returncode} and printed {printed!r}')
    if (host / 'video.mp4').read_bytes() != data:
        sys.exit('video.mp4 is not what was sent')


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
        (host / 'program.cpp').write_text(example_of(arguments.source / 'README.md'))
        upload_to(WAYS[arguments.way](arguments, host), host)


if __name__ == '__main__':
    main()
