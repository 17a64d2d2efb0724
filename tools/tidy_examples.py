"""What each rule of tools/tidy catches, and what it lets pass: run by `tools/tidy --self-test`."""

import pathlib
import tempfile

NOTE = """# A fact
How to see it: tests/kernel/{name}.cpp
Where in src: {where}
Links: none
"""

# A tree without a fault, full of what a careless pattern would take for one.
GOOD_TREE = {
    'include/sluice/result.hpp': '#pragma once\n#include <string>\n'
                                 'inline std::string text() { return "x"; }\n',
    'src/base/units.hpp': '#pragma once\ninline constexpr long block_bytes = 262\'144;\n',
    'src/base/units.cpp': '#include "base/units.hpp"\n'
                          '// abort() and printf( in a comment\n'
                          'const char* quoted = "exit(1) and std::cout, sleep(1)";\n'
                          'const char* raw = R"x(IOSQE_IO_LINK " uname( )x";\n'
                          "char quote = '\"';\n",
    'src/kernel/ring.hpp': '#pragma once\n#include <linux/time_types.h>\n'
                           '#include "base/units.hpp"\n',
    'src/ops/op.cpp': '#include "kernel/ring.hpp"\n#include "sluice/result.hpp"\n'
                      '#include <new>\n'
                      'struct op { op(const op&) = delete; void abort(); };\n'
                      'void make(void* at, op* o) { ::new (at) int(1); o->abort(); }\n'
                      'void operator delete(void*) noexcept;\n',
    'src/engine.cpp': '#include "ops/op_list.hpp"\n',
    'src/ops/op_list.hpp': '#pragma once\n',
    'tests/base/units_test.cpp': '',
    'tests/ops/op_test.cpp': '',
    'tests/engine_test.cpp': '',
    'tests/meson.build': "unit_tests = ['base/units', 'ops/op', 'engine']\n",
    'tests/kernel/a_fact.cpp': '// kernel-notes/a_fact.md\n#include <liburing.h>\n',
    'tests/kernel/ring_test.cpp': '',
    'tests/kernel/meson.build': "kernel_probes = ['a_fact']\n",
    'kernel-notes/README.md': '- [a fact](a_fact.md)\n',
    'kernel-notes/a_fact.md': NOTE.format(name='a_fact', where='src/kernel/ring.hpp, src/ops.'),
    'tools/sluice_bench.cpp': '#include <memory>\n#include <sluice/result.hpp>\n',
    'README.md': 'Prose may be as long as it likes. ' + 'So it is. ' * 20 + '\n',
}

# (files laid over the good tree, path and words that must be in one problem)
BROKEN = [
    ({'src/base/a.hpp': '#pragma once\n#include "kernel/ring.hpp"\n'},
     'src/base/a.hpp:2', 'base may not include the later layer kernel'),
    ({'src/memory/b.hpp': '#pragma once\n#include "c.hpp"\n', 'src/memory/c.hpp': ''},
     'src/memory/b.hpp:2', 'does not say its folder'),
    ({'src/misc/a.hpp': '#pragma once\n'}, 'src/misc/a.hpp:1', 'is not a layer'),
    ({'src/base/a.hpp': '#pragma once\n#include "misc/b.hpp"\n'},
     'src/base/a.hpp:2', 'is in no layer'),
    ({'include/sluice/a.hpp': '#pragma once\n#include "base/units.hpp"\n'},
     'include/sluice/a.hpp:2', 'a public header may not include base/units.hpp'),
    ({'include/sluice/a.hpp': '#pragma once\n#include <liburing.h>\n'},
     'include/sluice/a.hpp:2', 'a public header may not include liburing.h'),
    ({'include/sluice/a.hpp': '#pragma once\n#include <boost/asio.hpp>\n'},
     'include/sluice/a.hpp:2', 'a public header may not include boost/asio.hpp'),
    ({'tools/sluice_bench.cpp': '#include "ops/op.hpp"\n'},
     'tools/sluice_bench.cpp:1', 'a tool may not include the internal ops/op.hpp'),
    ({'src/memory/a.hpp': '#pragma once\n#include <liburing.h>\n'},
     'src/memory/a.hpp:2', 'outside of kernel, ops and backend'),
    ({'src/base/a.hpp': '#pragma once\ninline std::string text();\n'},
     'src/base/a.hpp:1', 'does not compile alone'),
    ({'src/base/a.hpp': 'struct unguarded {};\n'}, 'src/base/a.hpp:1', 'does not compile alone'),
    ({'src/ops/op.cpp': '//' + 'x' * 99 + '\n'}, 'src/ops/op.cpp:1', '101 characters'),
    ({'tools/run': '#!/bin/sh\n' + 'x' * 101 + '\n'}, 'tools/run:2', '101 characters'),
    ({'include/sluice/a.hpp': '#pragma once\n' + '\n' * 250},
     'include/sluice/a.hpp:251', '251 lines in a public header'),
    ({'src/base/a.cpp': ''}, 'src/base/a.cpp:1', 'write tests/base/a_test.cpp'),
    ({'src/base/a.cpp': '', 'tests/base/a_test.cpp': ''},
     'tests/base/a_test.cpp:1', "add 'base/a' to tests/meson.build"),
    ({'kernel-notes/b.md': NOTE.format(name='b', where='src/ops')},
     'kernel-notes/b.md:1', 'tests/kernel/b.cpp does not exist'),
    ({'kernel-notes/a_fact.md': NOTE.format(name='another', where='src/ops')},
     'kernel-notes/a_fact.md:1', 'does not name its probe'),
    ({'kernel-notes/README.md': ''}, 'kernel-notes/a_fact.md:1', 'is not in the index'),
    ({'kernel-notes/a_fact.md': NOTE.format(name='a_fact', where='nowhere')},
     'kernel-notes/a_fact.md:3', 'names no place in src'),
    ({'kernel-notes/a_fact.md': NOTE.format(name='a_fact', where='src/ops/gone.cpp')},
     'kernel-notes/a_fact.md:3', 'src/ops/gone.cpp does not exist'),
    ({'tests/kernel/b.cpp': ''}, 'tests/kernel/b.cpp:1', 'a probe without its note'),
    ({'tests/kernel/meson.build': ''}, 'tests/kernel/a_fact.cpp:1', 'is built by nobody'),
    ({'src/ops/op.cpp': '// see kernel-notes/gone.md\n'},
     'src/ops/op.cpp:1', 'which does not exist'),
    ({'src/ops/op.cpp': '\n// TO' 'DO later\n'}, 'src/ops/op.cpp:2', 'left in the tree'),
    ({'README.md': 'FIX' 'ME\n'}, 'README.md:1', 'left in the tree'),
    ({'README.md': 'cd /wo' 'rk/main\n'}, 'README.md:1', 'is a path of one machine'),
    ({'README.md': 'cd /home/' 'ann/sluice\n'}, 'README.md:1', 'is a path of one machine'),
]

# (line of code, words of the problem), in src/ops/op.cpp, where every ban holds
BANNED_LINES = [
    ('void f() { printf("x"); }', 'prints nothing'),
    ('void f() { std::fprintf(stderr, "x"); }', 'prints nothing'),
    ('void f() { std::cerr << 1; }', 'prints nothing'),
    ('void f() { perror("x"); }', 'prints nothing'),
    ('void f() { exit(1); }', 'never ends the process'),
    ('void f() { std::abort(); }', 'never ends the process'),
    ('void f() { signal(13, SIG_IGN); }', 'no signal handler'),
    ('struct sigaction action;', 'no signal handler'),
    ('void f() { usleep(1); }', 'sleeping'),
    ('void f() { std::this_thread::sleep_for(1s); }', 'sleeping'),
    ('void f() { strcpy(a, b); }', 'without a bound'),
    ('void f() { sprintf(a, "x"); }', 'without a bound'),
    ('auto p = new int(1);', 'allocates nothing'),
    ('auto p = new (std::nothrow) int;', 'allocates nothing'),
    ('void f(int* p) { delete p; }', 'allocates nothing'),
    ('void f(int* p) { delete[] p; }', 'allocates nothing'),
    ('std::function<void()> f;', 'may allocate per op'),
    ('std::move_only_function<void()> f;', 'may allocate per op'),
    ('int o = SO_RCVBUF;', 'autotuning'),
    ('int o = SO_SNDBUFFORCE;', 'autotuning'),
    ('int f = IOSQE_IO_LINK;', 'hides results'),
    ('int f = IOSQE_IO_DRAIN;', 'hides results'),
    ('int f = IOSQE_CQE_SKIP_SUCCESS;', 'hides results'),
    ('void f() { uname(&n); }', 'kernel version'),
    ('#if LINUX_VERSION_CODE > 1', 'kernel version'),
]


def problems_of(check, files, cache):
    with tempfile.TemporaryDirectory(prefix='sluice-tidy-') as root:
        for path, text in files.items():
            file = pathlib.Path(root) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return [str(problem) for problem in check(root, cache)]


def run(check):
    """Says which example is not judged as it should be; 0 when all are."""
    examples = BROKEN + [({'src/ops/op.cpp': line + '\n'}, 'src/ops/op.cpp:1', words)
                         for line, words in BANNED_LINES]
    with tempfile.TemporaryDirectory(prefix='sluice-tidy-') as folder:
        cache = pathlib.Path(folder) / 'compiled'
        wrong = [f'the good tree: {p}' for p in problems_of(check, GOOD_TREE, cache)]
        for files, place, words in examples:
            found = problems_of(check, {**GOOD_TREE, **files}, cache)
            if not any(p.startswith(place + ':') and words in p for p in found):
                wrong.append(f'{place}: "{words}" not caught in {list(files.values())[0]!r}')
    print('\n'.join(wrong) if wrong else f'{len(examples)} broken trees caught')
    return 1 if wrong else 0
