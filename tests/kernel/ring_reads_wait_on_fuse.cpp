// A read of a FUSE file through the page cache is tried in io_uring_enter(2), which waits for a
// daemon that is stopped; with IOSQE_ASYNC it does not.
#include <atomic>
#include <thread>

#include "probe.hpp"
#include "small_filesystem.hpp"
#include "support/fault_fs.hpp"

namespace {

using namespace std::chrono_literals;

// Whether io_uring_enter(2) waits for the daemon, which stops when it is asked for attributes.
bool submission_waits(support::fault_fs& disk, int fd, unsigned flags) {
  disk.orders().reset();
  disk.orders().of(support::request_kind::attributes).stop_at = 1;
  std::atomic<bool> submitted = false;
  int result = 0;
  std::thread reader([&] {
    probe::ring ring;
    char byte = 0;
    ring.queue(0, [&](io_uring_sqe* sqe) { ::io_uring_prep_read(sqe, fd, &byte, 1, 0); }, flags);
    ring.submit();
    submitted = true;
    result = ring.wait().result;
  });
  const bool stopped = disk.has_stopped();
  std::this_thread::sleep_for(300ms);
  const bool waits = !submitted;
  disk.resume();
  reader.join();
  probe::expect(stopped, "the daemon was asked");
  probe::expect_equal(result, 1, "the read");
  return waits;
}

void show() {
  if (::geteuid() != 0) probe::skip("mounting needs the superuser");
  const probe::temp_dir dir;
  probe::in_child([&] {
    probe::private_mounts();
    if (!support::fault_fs::is_possible()) probe::skip("no /dev/fuse");
    support::fault_fs disk(dir.path(), {.keep_no_attributes = true});
    const std::string path = disk.mount_point() + "/file";
    const probe::descriptor file(static_cast<int>(
        probe::must(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open")));
    probe::expect_equal(probe::result_of(::write(file.get(), "b", 1)), 1, "write");
    probe::expect(submission_waits(disk, file.get(), 0), "the submission waits");
    probe::expect(!submission_waits(disk, file.get(), IOSQE_ASYNC), "with IOSQE_ASYNC it does not");
  });
}

}  // namespace

int main() { return probe::run(show); }
