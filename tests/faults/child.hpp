// Faults that a process cannot take back: each test runs in a child of its own, with the checks of
// doctest, and the child's end says whether all of them held.
#pragma once

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>

#include "support/hang_report.hpp"
#include "support/skips.hpp"

namespace faults {

// Counts what fails in this process: doctest itself tells a test nothing of it.
struct failure_count : doctest::IReporter {
  static inline std::atomic<int> seen{0};
  explicit failure_count(const doctest::ContextOptions&) {}
  void log_assert(const doctest::AssertData& in) override {
    if (in.m_failed) ++seen;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_message(const doctest::MessageData& in) override {  // FAIL_CHECK, and MESSAGE
    if (in.m_severity != doctest::assertType::is_warn) ++seen;
  }
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

// This machine cannot show the fault.
struct cannot_show {
  std::string why;
};

inline constexpr int exit_skipped = 77;
inline constexpr unsigned seconds_max = 60;  // a child that hangs is a failed test

template <class Body>
int run_child(Body& body) {
  support::hang_after(seconds_max);
  failure_count::seen = 0;
  int code = 0;
  try {
    body();
  } catch (const cannot_show& reason) {
    std::cout << "skip: " << reason.why << '\n';
    code = exit_skipped;
  } catch (...) {  // a REQUIRE: said already
    code = 1;
  }
  std::cout.flush();
  return failure_count::seen > 0 ? 1 : code;
}

template <class Body>
void in_child(Body body) {
  std::cout.flush();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(run_child(body));
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK_MESSAGE(WIFEXITED(status), "ended by signal ", WTERMSIG(status));
  if (!WIFEXITED(status)) return;
  const int code = WEXITSTATUS(status);
  if (code == exit_skipped) {
    support::note_skipped();
    return;
  }
  support::note_shown();
  CHECK(code == 0);
}

inline void need_root(const char* what) {
  if (::geteuid() != 0) throw cannot_show{std::string(what) + " needs the superuser"};
}

inline void limit(int resource, rlim_t most) {
  rlimit now{};
  REQUIRE(::getrlimit(static_cast<__rlimit_resource>(resource), &now) == 0);
  now.rlim_cur = most;
  REQUIRE(::setrlimit(static_cast<__rlimit_resource>(resource), &now) == 0);
}

// For good: capabilities go with the user.
inline void become_ordinary_user() {
  if (::geteuid() != 0) return;
  constexpr unsigned nobody = 65'534;
  REQUIRE(::setresgid(nobody, nobody, nobody) == 0);
  REQUIRE(::setresuid(nobody, nobody, nobody) == 0);
  // /proc/self belongs to root until then.
  REQUIRE(::prctl(PR_SET_DUMPABLE, 1) == 0);
}

// Mounts that this process alone sees.
inline void mounts_of_its_own() {
  need_root("a mount");
  if (::unshare(CLONE_NEWNS) != 0) throw cannot_show{"no mount namespace"};
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    throw cannot_show{"the mounts cannot be made private"};
  }
}

inline void mount_tmpfs(const std::string& at, std::size_t bytes) {
  mounts_of_its_own();
  const std::string options = "mode=0777,size=" + std::to_string(bytes);
  if (::mount("none", at.c_str(), "tmpfs", 0, options.c_str()) != 0) {
    throw cannot_show{"tmpfs cannot be mounted: " + std::string(std::strerror(errno))};
  }
}

// ext4 in a file of its own beside the mount point.
inline void mount_ext4(const std::string& at, std::size_t bytes) {
  mounts_of_its_own();
  const std::string image = at + ".image";
  const std::string commands = "PATH=$PATH:/usr/sbin:/sbin; truncate -s " + std::to_string(bytes) +
                               " '" + image + "' && mkfs.ext4 -q -m 0 '" + image +
                               "' >/dev/null 2>&1 && mount -o loop '" + image + "' '" + at +
                               "' 2>/dev/null && rm -r '" + at + "/lost+found'";
  if (std::system(commands.c_str()) != 0) throw cannot_show{"ext4 cannot be mounted here"};
}

// btrfs or XFS, which share blocks between files, in a sparse file beside the mount point.
inline void mount_sharing(const std::string& at, const std::string& filesystem) {
  mounts_of_its_own();
  const std::string image = at + ".image";
  const std::string commands = "PATH=$PATH:/usr/sbin:/sbin; truncate -s 400M '" + image +
                               "' && mkfs." + filesystem + " -q '" + image +
                               "' >/dev/null 2>&1 && mount -o loop '" + image + "' '" + at +
                               "' 2>/dev/null";
  if (std::system(commands.c_str()) != 0) throw cannot_show{filesystem + " cannot be mounted here"};
}

// btrfs, where no more than `quota` bytes may be used.
inline void mount_btrfs_with_quota(const std::string& at, std::size_t quota) {
  mount_sharing(at, "btrfs");
  const std::string commands =
      "PATH=$PATH:/usr/sbin:/sbin; exec >/dev/null 2>&1; btrfs quota enable '" + at +
      "' && btrfs quota rescan -w '" + at + "' && btrfs qgroup limit " + std::to_string(quota) +
      " '" + at + "' && sync -f '" + at + "'";
  if (std::system(commands.c_str()) != 0) throw cannot_show{"btrfs with quotas cannot be had here"};
}

// ext4 in a file on a tmpfs of `bytes`, which is too small for all of it: a disk that takes writes
// until fill_disk_below, and answers them with errors from then on.
inline void mount_ext4_on_little(const std::string& at, std::size_t bytes,
                                 const std::string& mkfs_options = "") {
  mounts_of_its_own();
  const std::string below = at + ".below";
  const std::string commands = "PATH=$PATH:/usr/sbin:/sbin; mkdir '" + below +
                               "' && mount -t tmpfs -o size=" + std::to_string(bytes) + " none '" +
                               below + "' && truncate -s " + std::to_string(4 * bytes) + " '" +
                               below + "/image' && mkfs.ext4 -q -m 0 " + mkfs_options + " '" +
                               below + "/image' >/dev/null 2>&1 && mount -o loop '" + below +
                               "/image' '" + at + "' 2>/dev/null && rm -r '" + at +
                               "/lost+found' && sync -f '" + at + "'";
  if (std::system(commands.c_str()) != 0) throw cannot_show{"ext4 on tmpfs cannot be mounted here"};
}

inline void fill_disk_below(const std::string& at) {
  const std::string command =
      "dd if=/dev/zero of='" + at + ".below/filler' bs=4k 2>/dev/null; true";
  REQUIRE(std::system(command.c_str()) == 0);
}

}  // namespace faults
