#!/usr/bin/env python3
"""sluicectl probe, and sluicectl against a running sluiced by its control socket.
Usage: control_test.py SLUICECTL SLUICED"""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

SLUICED = sys.argv.pop(2)
SLUICECTL = sys.argv.pop(1)
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
SMALL = ["--set", "sluice.memory.arena_bytes=16M"]
DEPTH = "sluice.receive.depth"


def run(*words, user=None, **environment):
    """Exit status, output and errors of one call; keywords go into its environment."""
    done = subprocess.run([SLUICECTL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=CLEAN | environment, timeout=30, check=False, user=user,
                          extra_groups=None if user is None else [])
    return done.returncode, done.stdout, done.stderr


class Probe(unittest.TestCase):
    def test_it_prints_the_backend_with_its_reason_and_a_line_for_every_capability(self):
        status, out, err = run("probe", *SMALL, SLUICE_BACKEND="pool")
        lines = out.splitlines()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(lines[0], "backend: pool (sluice.backend asks for it)")
        self.assertEqual(lines[1], "")
        for line in lines[2:]:
            self.assertRegex(line, r"^\S+ +(yes|no   \S.*)$")

    def test_the_columns_stand_below_each_other(self):
        lines = run("probe", *SMALL, SLUICE_CAPABILITIES_HIDDEN="openat2")[1].splitlines()[2:]
        name, answer = lines[0].split(maxsplit=1)
        column = lines[0].index(answer, len(name))
        for line in lines:
            self.assertEqual(line[column - 1], " ")
            self.assertIn(line[column:column + 3], ("yes", "no "))

    def test_what_is_hidden_is_absent_with_that_reason(self):
        status, out, _ = run("probe", *SMALL, "--set",
                             "sluice.capabilities.hidden=io_uring,openat2")
        self.assertEqual(status, 0)
        self.assertTrue(out.startswith("backend: pool (no io_uring: hidden by "), out)
        self.assertRegex(out, r"\nopenat2 +no   hidden by sluice\.capabilities\.hidden\n")

    def test_json_has_the_same(self):
        status, out, _ = run("probe", "--json", *SMALL, "--set", "sluice.backend=pool", "--set",
                             "sluice.capabilities.hidden=openat2")
        probe = json.loads(out)
        self.assertEqual((status, probe["backend"]), (0, "pool"))
        self.assertEqual(probe["capabilities"]["openat2"],
                         {"present": False, "reason": "hidden by sluice.capabilities.hidden"})

    def test_an_engine_that_cannot_start_is_told(self):
        status, out, err = run("probe", *SMALL, "--set", "sluice.backend=ring", "--set",
                               "sluice.capabilities.hidden=io_uring")
        self.assertEqual((status, out), (1, ""))
        self.assertTrue(err.startswith("sluicectl: no engine can be started: "), err)

    def test_a_configuration_that_is_none_is_told(self):
        for words, why in ((["--set", "sluice.backend"], "write it as NAME=VALUE"),
                           (["--set", "sluice.nothing=1"], "'sluice.nothing' is no knob"),
                           (["--set", "sluice.ring.entries=1"], "out of range"),
                           (["sluice.backend"], "takes no names")):
            status, out, err = run("probe", *words)
            self.assertEqual((status, out), (1, ""))
            self.assertIn(why, err)

    def test_stats_without_a_process_is_an_error(self):
        status, out, err = run("stats")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("--control", err)


class Nobody(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "control")

    def complaint(self, *words):
        status, out, err = run("--control", self.path, *words)
        self.assertEqual((status, out), (1, ""))
        return err

    def test_where_nothing_listens_one_line_says_so(self):
        for words in (["-a"], ["stats"], ["probe"], ["-w", DEPTH + "=1"]):
            self.assertEqual(self.complaint(*words),
                             f"sluicectl: --control {self.path}: there is no such socket\n")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        self.assertEqual(self.complaint("-a"),
                         f"sluicectl: --control {self.path}: nothing listens there\n")

    def test_a_process_that_closes_or_babbles_is_told(self):
        for said, why in ((b"", "closed the connection"), (b"x" * 100_000, "no control socket")):
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(self.path)
                server.listen(1)
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(self.complaint, "-a")
                    peer, _ = server.accept()
                    with peer:
                        peer.recv(100)
                        peer.sendall(said)
                    self.assertIn(why, asked.result())
            os.unlink(self.path)

    def test_a_name_too_long_for_a_socket_is_told(self):
        status, _, err = run("--control", "x" * 200, "-a")
        self.assertEqual(status, 1)
        self.assertIn("1 to 107 bytes", err)


class Server:
    """One sluiced with a control socket, in a folder of its own."""

    def __init__(self, folder, *words):
        self.root = os.path.join(folder, "root")
        self.control = os.path.join(folder, "control")
        os.makedirs(self.root, exist_ok=True)
        self.process = subprocess.Popen(
            [SLUICED, "--root", self.root, "--listen", "127.0.0.1:0", "--control", self.control,
             *SMALL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CLEAN)
        self.first_line = self.process.stdout.readline()

    def url(self, name):
        return f"http://{self.first_line.split()[-1]}/{name}"

    def put(self, name, body):
        request = urllib.request.Request(self.url(name), data=body, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        # Of the disk that this runs on, at the start.
        lines = [line for line in err.splitlines(True) if "without a journal" not in line]
        return self.process.returncode, out, "".join(lines)


def failing_disk(case, folder):
    """ext4 on `folder`/root that takes writes and fails when they are to reach the disk."""
    root, below = os.path.join(folder, "root"), os.path.join(folder, "below")
    os.mkdir(root)
    os.mkdir(below)
    image = os.path.join(below, "image")
    steps = (["mount", "-t", "tmpfs", "-o", "size=16m", "none", below],
             ["truncate", "-s", "64M", image], ["mkfs.ext4", "-q", "-m", "0", image],
             ["mount", "-o", "loop", image, root], ["sync", "-f", root])
    paths = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    for step in steps:
        done = subprocess.run(step, stderr=subprocess.PIPE, env=paths, check=False)
        if step[0] == "mount" and done.returncode == 0:
            case.addCleanup(subprocess.run, ["umount", "-l", step[-1]], check=False)
        if done.returncode != 0:
            case.skipTest(f"{step[0]}: {done.stderr.decode().strip()}")
    with open(os.path.join(below, "filler"), "wb") as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(65536))
            filler.flush()


class Suspect(unittest.TestCase):
    def put(self, server, name):
        """Status, body, and whether Retry-After is there."""
        try:
            return server.put(name, b"x" * 100_000), "", False
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode(), "Retry-After" in refused.headers

    def test_after_a_failed_sync_uploads_are_refused_until_it_is_cleared(self):
        if os.geteuid() != 0:
            self.skipTest("mounting ext4 needs root")
        for failure, ended in (("fail_file", False), ("fail_engine", True)):
            for engines in (1, 2):
                with self.subTest(failure, engines=engines), \
                        tempfile.TemporaryDirectory() as folder:
                    self.check_refusal(folder, failure, ended, engines)
                    self.doCleanups()

    def check_refusal(self, folder, failure, ended, engines):
        failing_disk(self, folder)
        server = Server(folder, "--engines", str(engines), "--set",
                        f"sluice.commit.on_failure={failure}")
        self.addCleanup(lambda: server.process.poll() is not None or server.end())
        status, body, _ = self.put(server, "lost")
        self.assertEqual(status, 500)
        self.assertIn("a sync failed", body)
        # Each on a connection of its own, which any of the engines may serve.
        names = ["refused"] * (2 if engines == 1 else 20)
        for name in [*names, "lost"]:
            status, body, retry = self.put(server, name)
            self.assertEqual((status, retry), (503, True), body)
            self.assertIn("started anew" if ended else "sluicectl clear-suspects", body)
        with self.assertRaises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(server.url("lost"), timeout=30)
        self.assertEqual(missing.exception.code, 404)
        missing.exception.close()
        ctl = ("--control", server.control)
        self.assertEqual(run(*ctl, "-n", "stats", "sluice.commit.suspects")[1], "1\n")
        self.assertEqual(run(*ctl, "clear-suspects"), (0, "cleared = 1\n", ""))
        self.assertEqual(run(*ctl, "clear-suspects"), (0, "cleared = 0\n", ""))
        status, body, _ = self.put(server, "again")
        self.assertEqual("earlier sync" in body, ended, body)
        code, _, err = server.end()
        self.assertEqual(code, 0)
        self.assertIn("a sync failed", err)


class Live(unittest.TestCase):
    words = []

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.server = Server(self.folder, *self.words)
        self.addCleanup(lambda: self.server.process.poll() is not None or self.server.end())

    def ctl(self, *words, **more):
        return run("--control", self.server.control, *words, **more)

    def depth(self):
        return int(self.ctl("-n", DEPTH)[1])

    def stat(self, name):
        return int(self.ctl("-n", "stats", name)[1])

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(20)
        client.connect(self.server.control)
        return client

    def test_values_are_listed_with_those_of_the_command_line(self):
        status, out, err = self.ctl("-a")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("sluice.memory.arena_bytes = 16777216\n", out)
        self.assertEqual([line.split(" = ")[0] for line in out.splitlines()],
                         run("-a", "-N")[1].split())
        self.assertEqual(self.ctl(DEPTH), (0, DEPTH + " = 16\n", ""))
        knobs = json.loads(self.ctl("--json", "sluice.memory")[1])
        self.assertEqual(knobs["sluice.memory.arena_bytes"]["value"], 16777216)
        self.assertEqual(knobs["sluice.memory.arena_bytes"]["when"], "start")

    def test_a_live_knob_is_set(self):
        self.assertEqual(self.ctl("-w", DEPTH + "=4"), (0, DEPTH + " = 4\n", ""))
        self.assertEqual(self.depth(), 4)
        self.assertEqual(self.ctl("-q", DEPTH + " = 5"), (0, "", ""))
        self.assertEqual(self.depth(), 5)
        self.assertEqual(self.ctl("-n", "-w", DEPTH + "=6", "sluice.send.depth=2"),
                         (0, "6\n2\n", ""))

    def test_a_knob_of_the_server_takes_effect_on_every_engine(self):
        self.assertEqual(self.server.put("a", b"x" * 2000), 201)
        self.assertEqual(self.ctl("-q", "-w", "sluice.http.body_max_bytes=1K")[0], 0)
        for _ in range(8):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.server.put("b", b"x" * 2000)
            self.assertEqual(refused.exception.code, 413)
            refused.exception.close()

    def test_what_is_refused_changes_nothing(self):
        for word, why in ((DEPTH + "=0", "'0' is out of range: 1 to 256 blocks"),
                          (DEPTH + "=many", "'many' is not a number"),
                          ("sluice.ring.entries=512", "can only be set before the engine starts"),
                          ("sluice.nothing=1", "'sluice.nothing' is no knob"),
                          ("a b=1", "'a b' is no knob"),
                          (DEPTH + "=1\nset " + DEPTH + " 2", "control characters"),
                          (DEPTH, "NAME=VALUE")):
            before = self.ctl("-a")
            status, out, err = self.ctl("-w", word)
            self.assertEqual((status, out), (1, ""))
            self.assertTrue(err.startswith("sluicectl: "))
            self.assertIn(why, err)
            self.assertEqual(len(err.splitlines()), 1)
            self.assertEqual(self.ctl("-a"), before)
        self.assertEqual(self.ctl("-e", "-w", "sluice.nothing=1"), (0, "", ""))
        self.assertEqual(self.ctl("sluice.nothing"),
                         (1, "", "sluicectl: sluice.nothing: no such knob\n"))

    def test_a_file_is_applied_line_by_line(self):
        path = os.path.join(self.folder, "x.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"# why\n{DEPTH} = 3\nsluice.backend = pool\nsluice.send.depth=2\n")
        self.assertEqual(self.ctl("-p", path), (
            1, DEPTH + " = 3\nsluice.send.depth = 2\n",
            f"sluicectl: {path}:3: sluice.backend: can only be set before the engine starts\n"))
        self.assertEqual(self.depth(), 3)

    def test_stats_grow_with_the_work(self):
        requests = self.stat("sluice.http.requests")
        operations = self.stat("sluice.ops.submitted")
        self.assertEqual(self.server.put("a", b"x" * 100_000), 201)
        self.assertEqual(self.stat("sluice.http.requests"), requests + 1)
        self.assertGreater(self.stat("sluice.ops.submitted"), operations)
        status, out, _ = self.ctl("stats")
        self.assertEqual(status, 0)
        self.assertIn("sluice.http.responses_2xx = 1\n", out)
        counter = json.loads(self.ctl("--json", "stats", "sluice.ops")[1])["sluice.ops.submitted"]
        self.assertEqual((counter["unit"], counter["kind"]), ("operations", "total"))
        self.assertEqual(self.ctl("stats", "sluice.nothing"),
                         (1, "", "sluicectl: sluice.nothing: no such counter\n"))

    def test_probe_tells_of_the_process_and_not_of_us(self):
        probe = json.loads(self.ctl("--json", "probe", SLUICE_BACKEND="nonsense")[1])
        self.assertIn(probe["backend"], ("ring", "pool"))
        self.assertIn("openat2", probe["capabilities"])
        self.assertTrue(self.ctl("probe")[1].startswith("backend: " + probe["backend"]))

    def test_the_socket_is_for_its_user_alone(self):
        self.assertEqual(stat.S_IMODE(os.lstat(self.server.control).st_mode), 0o600)
        if os.geteuid() != 0:
            self.skipTest("needs root to be another user")
        os.chmod(self.folder, 0o755)
        nobody = 65534
        if not os.access(SLUICECTL, os.X_OK) or run("-n", "sluice.backend", user=nobody)[0] != 0:
            self.skipTest("another user cannot run this build")
        self.assertEqual(self.ctl("-a", user=nobody), (
            1, "", f"sluicectl: --control {self.server.control}: only its own user and root may "
                   "speak to it\n"))
        os.chmod(self.server.control, 0o666)
        status, out, err = self.ctl("-a", user=nobody)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("not permitted", err)

    def test_two_clients_at_once_are_both_served(self):
        first, second = self.connect(), self.connect()
        for turn in range(3):
            for client in (first, second):
                client.sendall(b"get " + DEPTH.encode() + b"\n")
            for client in (second, first):
                self.assertEqual(client.recv(1000), DEPTH.encode() + b" = 16\n\n", turn)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.ctl("-a"), range(8)))
        self.assertEqual(len({status for status, _, _ in answers}), 1)

    def test_bad_clients_harm_nobody(self):
        garbage, half, endless = self.connect(), self.connect(), self.connect()
        garbage.sendall(bytes(range(256)) + b"\n")
        half.sendall(f"set {DEPTH} 7".encode())
        half.shutdown(socket.SHUT_WR)
        endless.sendall(b"x" * (1 << 20))
        for client, why in ((garbage, b"error: "), (half, b"error: the line did not end\n\n"),
                            (endless, b"error: the line is too long\n\n")):
            self.assertTrue(client.recv(1000).startswith(why))
        self.assertEqual(self.depth(), 16)

    def test_the_end_takes_the_socket_away_even_with_clients(self):
        idle = self.connect()
        idle.sendall(b"get " + DEPTH.encode() + b"\nget ")
        self.assertEqual(idle.recv(1000), DEPTH.encode() + b" = 16\n\n")
        self.assertEqual(self.server.end(), (0, "", ""))
        self.assertFalse(os.path.lexists(self.server.control))

    def test_a_killed_server_leaves_a_name_that_the_next_one_takes(self):
        self.server.end(signal.SIGKILL)
        self.assertTrue(os.path.lexists(self.server.control))
        # The kernel takes a killed process's ring down behind its end, and with it the accept that
        # still holds the listener: until then somebody seems to listen.
        until = time.monotonic() + 20
        while "nothing listens there" not in self.ctl("-a")[2] and time.monotonic() < until:
            time.sleep(0.01)
        self.assertIn("nothing listens there", self.ctl("-a")[2])
        self.server = Server(self.folder, *self.words)
        self.assertEqual(self.depth(), 16)

    def test_a_second_server_at_the_same_name_does_not_start(self):
        second = Server(self.folder, *self.words)
        status, out, err = second.process.wait(30), second.first_line, second.process.stderr.read()
        second.process.communicate()
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"--control {self.server.control}: ", err)
        self.assertEqual(self.depth(), 16)


class LiveWithTwoEngines(Live):
    words = ["--engines", "2"]


class LiveWithoutRing(Live):
    words = ["--set", "sluice.backend=pool"]


if __name__ == "__main__":
    unittest.main()
