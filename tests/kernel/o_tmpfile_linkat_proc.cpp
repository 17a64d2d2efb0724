// Naming an O_TMPFILE: linkat with AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH, or from Linux 6.10 the
// credentials that opened the file; through /proc/self/fd with AT_SYMLINK_FOLLOW it needs neither,
// from the ring and its workers as well. A taken name is EEXIST.
#include <string>

#include "probe.hpp"

namespace {

void show_as_ordinary_user(const probe::temp_dir& dir, int file_of_another) {
  probe::become_ordinary_user();
  if (::access("/proc/self/fd", F_OK) != 0) probe::skip("/proc is not mounted");
  const int at = dir.fd();
  const auto file = dir.unnamed_file();
  const std::string by_proc = "/proc/self/fd/" + std::to_string(file.get());

  const auto link_by_empty_path = [&](int fd) {
    return probe::result_of(::linkat(fd, "", at, "by_empty_path", AT_EMPTY_PATH));
  };
  // ENOENT, not EPERM: to a caller without the right the empty path is simply no path.
  probe::expect_equal(link_by_empty_path(file_of_another), -ENOENT,
                      "linkat with AT_EMPTY_PATH of a file that another process has opened");
  const long of_own_file = link_by_empty_path(file.get());
  std::fprintf(stderr, "linkat with AT_EMPTY_PATH of a file of our own: %s\n",
               probe::in_words(of_own_file).c_str());
  probe::expect(of_own_file == 0 || of_own_file == -ENOENT, "it is 0 from Linux 6.10, else ENOENT");

  const auto link_by_proc = [&](const char* name) {
    return probe::result_of(::linkat(AT_FDCWD, by_proc.c_str(), at, name, AT_SYMLINK_FOLLOW));
  };
  probe::expect_equal(link_by_proc("by_proc"), 0, "linkat through /proc/self/fd");
  probe::expect_equal(link_by_proc("by_proc"), -EEXIST, "linkat to a taken name");

  probe::ring ring;
  ring.require(IORING_OP_LINKAT, "linkat");
  const auto link_by_ring = [&](const char* name, unsigned flags) {
    return ring.perform(
        [&](io_uring_sqe* sqe) {
          ::io_uring_prep_linkat(sqe, AT_FDCWD, by_proc.c_str(), at, name, AT_SYMLINK_FOLLOW);
        },
        flags);
  };
  probe::expect_equal(link_by_ring("by_ring", 0), 0, "linkat by the ring");
  probe::expect_equal(link_by_ring("by_worker", IOSQE_ASYNC), 0, "linkat by a worker of the ring");
  probe::expect_equal(link_by_ring("by_ring", 0), -EEXIST, "linkat by the ring to a taken name");

  struct stat unnamed {};
  struct stat named {};
  probe::must(::fstat(file.get(), &unnamed), "fstat");
  probe::must(::fstatat(at, "by_worker", &named, 0), "fstatat");
  probe::expect(unnamed.st_ino == named.st_ino, "the name leads to the file");
}

void show() {
  const probe::temp_dir dir;
  probe::must(::chmod(dir.path().c_str(), 0777), "chmod");
  const auto file = dir.unnamed_file();
  probe::in_child([&] { show_as_ordinary_user(dir, file.get()); });
}

}  // namespace

int main() { return probe::run(show); }
