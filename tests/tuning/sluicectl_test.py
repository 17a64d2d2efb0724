#!/usr/bin/env python3
"""sluicectl: what it prints, where, and how it exits. Usage: sluicectl_test.py SLUICECTL"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

SLUICECTL = sys.argv.pop(1) if len(sys.argv) > 1 else "sluicectl"


def run(*words, stdout=subprocess.PIPE, **environment):
    """Exit status, output and errors of one call; keywords go into its environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    done = subprocess.run([SLUICECTL, *words], stdout=stdout, stderr=subprocess.PIPE, text=True,
                          env=clean | environment, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


class Show(unittest.TestCase):
    def test_all_knobs_are_listed_as_name_and_value(self):
        status, out, _ = run("-a")
        lines = out.splitlines()
        self.assertEqual(status, 0)
        self.assertGreater(len(lines), 30)
        for line in lines:
            self.assertRegex(line, r"^sluice\.[a-z_.]+ = .*$")

    def test_one_knob_is_shown_with_what_the_environment_says(self):
        self.assertEqual(run("sluice.ring.entries", SLUICE_RING_ENTRIES="512"),
                         (0, "sluice.ring.entries = 512\n", ""))

    def test_n_prints_values_and_capital_n_names(self):
        names = ("sluice.pool.threads", "sluice.backend")
        environment = {"SLUICE_POOL_THREADS": "7", "SLUICE_BACKEND": "pool"}
        self.assertEqual(run("-n", *names, **environment), (0, "7\npool\n", ""))
        self.assertEqual(run("-N", *names, **environment), (0, "\n".join(names) + "\n", ""))

    def test_a_group_shows_the_knobs_below_it(self):
        status, out, _ = run("-N", "sluice.ring")
        self.assertEqual(status, 0)
        self.assertEqual(out.split(), ["sluice.ring.entries", "sluice.ring.completion_entries",
                                       "sluice.ring.workers_max"])

    def test_an_unknown_name_is_an_error_and_the_others_are_shown(self):
        status, out, err = run("-N", "sluice.nothing", "sluice.backend")
        self.assertEqual((status, out), (1, "sluice.backend\n"))
        self.assertEqual(err, "sluicectl: sluice.nothing: no such knob\n")

    def test_e_forgives_unknown_names(self):
        self.assertEqual(run("-e", "-N", "sluice.nothing", "sluice.backend"),
                         (0, "sluice.backend\n", ""))

    def test_r_keeps_the_names_that_match(self):
        status, out, _ = run("-a", "-N", "-r", r"^sluice\.(ring|pool)\.")
        self.assertEqual(status, 0)
        self.assertEqual(len(out.split()), 4)

    def test_a_pattern_that_is_none_is_an_error(self):
        status, out, err = run("-a", "-r", "(")
        self.assertEqual((status, out), (1, ""))
        self.assertTrue(err.startswith("sluicectl: -r: "))

    def test_json_has_typed_values_with_their_ranges(self):
        status, out, _ = run("-a", "--json", SLUICE_RING_ENTRIES="512", SLUICE_MEMORY_REGISTER="no")
        self.assertEqual(status, 0)
        knobs = json.loads(out)
        self.assertEqual(len(knobs), len(run("-a")[1].splitlines()))
        entries = knobs["sluice.ring.entries"]
        self.assertEqual((entries["value"], entries["default"]), (512, 256))
        self.assertEqual((entries["min"], entries["max"]), (8, 32768))
        self.assertEqual((entries["unit"], entries["when"]), ("entries", "start"))
        self.assertIs(knobs["sluice.memory.register"]["value"], False)
        self.assertEqual(knobs["sluice.backend"]["choices"], "auto|ring|pool")

    def test_d_describes_a_knob(self):
        status, out, _ = run("-d", "sluice.memory.block_bytes")
        self.assertEqual(status, 0)
        self.assertIn("4096 to 2097152 bytes, a power of two; default 524288; start", out)

    def test_a_bad_value_in_the_environment_is_told_and_not_used(self):
        status, out, err = run("-n", "sluice.ring.entries", SLUICE_RING_ENTRIES="1")
        self.assertEqual(status, 0)
        self.assertNotEqual(out, "1\n")
        self.assertIn("environment: SLUICE_RING_ENTRIES", err)


class Check(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, text):
        path = os.path.join(self.folder.name, "x.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_a_good_file_prints_its_settings_as_an_engine_holds_them(self):
        path = self.file("# why\nsluice.memory.arena_bytes = 1G\nsluice.storage.preallocate = no\n")
        self.assertEqual(run("-p", path), (0, "sluice.memory.arena_bytes = 1073741824\n"
                                              "sluice.storage.preallocate = off\n", ""))
        self.assertEqual(run("-q", "-p", path), (0, "", ""))

    def test_a_bad_line_is_told_with_its_place_and_the_others_are_taken(self):
        path = self.file("sluice.ring.entries = 4\nsluice.pool.threads = 8\n")
        self.assertEqual(run("-p", path), (
            1, "sluice.pool.threads = 8\n",
            f"sluicectl: {path}:1: sluice.ring.entries: '4' is out of range: 8 to 32768 entries\n"))

    def test_a_line_without_equals_is_an_error(self):
        path = self.file("sluice.ring.entries\n")
        self.assertEqual(run("-p", path),
                         (1, "", f"sluicectl: {path}:1: expected `name = value`\n"))

    def test_unknown_names_are_errors_unless_e_or_a_minus_forgives_them(self):
        path = self.file("sluice.nothing = 1\n")
        self.assertEqual(run("-p", path),
                         (1, "", f"sluicectl: {path}:1: 'sluice.nothing' is no knob\n"))
        self.assertEqual(run("-e", "-p", path), (0, "", ""))
        self.assertEqual(run("-p", self.file("-sluice.nothing = 1\n")), (0, "", ""))

    def test_a_file_that_is_not_there_is_an_error(self):
        self.assertEqual(run("-p", "/no/such.conf"),
                         (1, "", "sluicectl: /no/such.conf: no such file\n"))

    def test_settings_that_contradict_each_other_are_told(self):
        status, _, err = run("-q", "-p", self.file("sluice.ring.completion_entries = 16\n"),
                             SLUICE_RING_ENTRIES="512")
        self.assertEqual(status, 1)
        self.assertIn("sluice.ring.completion_entries is below sluice.ring.entries", err)

    def test_several_files_apply_in_their_order(self):
        path = self.file("sluice.pool.threads = 8\n")
        status, out, _ = run("-n", "-p", path, path)
        self.assertEqual((status, out), (0, "8\n8\n"))


class Misuse(unittest.TestCase):
    def test_without_arguments_the_usage_is_an_error(self):
        status, out, err = run()
        self.assertEqual((status, out), (1, ""))
        self.assertIn("Usage:", err)

    def test_an_unknown_option_is_an_error(self):
        status, out, _ = run("--no-such-option")
        self.assertEqual((status, out), (1, ""))

    def test_setting_a_knob_of_no_engine_is_refused(self):
        for words in (["-w", "sluice.backend=pool"], ["sluice.backend=pool"], ["-w"]):
            status, out, err = run(*words)
            self.assertEqual((status, out), (1, ""))
            self.assertIn("--control", err)

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            for words in (["-a"], ["--man"], ["-n", "sluice.backend"]):
                self.assertEqual(run(*words, stdout=full)[0], 1)

    def test_help_and_version_are_no_errors(self):
        self.assertEqual(run("--help")[0], 0)
        self.assertRegex(run("--version")[1], r"^sluicectl [0-9.]+\n$")


class ManPage(unittest.TestCase):
    def test_every_knob_has_its_paragraph(self):
        status, page, _ = run("--man")
        self.assertEqual(status, 0)
        self.assertTrue(page.startswith(".TH SLUICE.CONF 5"))
        for name in run("-a", "-N")[1].split():
            self.assertIn(f".TP\n.B {name}\n", page)


if __name__ == "__main__":
    unittest.main()
