// Buffered writes that the ring hands to a worker thread take turns by a hash of the file that has
// 64 values: while one is stuck, those to all other files of the same value do not even begin.
// Writes with IOSQE_ASYNC do not take turns, nor do direct ones on a filesystem that carries them
// out side by side.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

#include "probe.hpp"

namespace {

constexpr unsigned files_beside = 512;
constexpr std::size_t page = 4096;

// A page that whoever touches it waits for: a write from it is stuck as on a disk that hangs.
class awaited_page {
 public:
  awaited_page()
      : fd_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))), bytes_(page) {
    if (fd_.get() < 0) probe::skip("userfaultfd: " + probe::in_words(-errno));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    probe::must(::ioctl(fd_.get(), UFFDIO_API, &api), "UFFDIO_API");
    uffdio_register wanted{
        .range = {address(), page}, .mode = UFFDIO_REGISTER_MODE_MISSING, .ioctls = 0};
    probe::must(::ioctl(fd_.get(), UFFDIO_REGISTER, &wanted), "UFFDIO_REGISTER");
  }
  const char* data() const { return bytes_.data(); }
  void give() {
    uffdio_zeropage filled{.range = {address(), page}, .mode = 0, .zeropage = 0};
    probe::must(::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &filled), "UFFDIO_ZEROPAGE");
  }

 private:
  std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(bytes_.data()); }

  probe::descriptor fd_;
  probe::pages bytes_;
};

// How many of the files are not written while a buffered write to `stuck` does not end; `flags` are
// IOSQE_* of all of them.
long held_up(const probe::descriptor& stuck, const std::vector<probe::descriptor>& files,
             unsigned flags = 0) {
  probe::ring ring(2 * files_beside);
  const probe::pages bytes(page);
  awaited_page missing;
  ring.queue(
      files_beside,
      [&](io_uring_sqe* sqe) { ::io_uring_prep_write(sqe, stuck.get(), missing.data(), page, 0); },
      flags);
  ring.submit();
  probe::expect(!ring.wait_for(200).has_value(), "the write from the awaited page is stuck");
  for (unsigned i = 0; i < files.size(); ++i) {
    ring.queue(
        i,
        [&](io_uring_sqe* sqe) {
          ::io_uring_prep_write(sqe, files[i].get(), bytes.data(), page, 0);
        },
        flags);
  }
  ring.submit();
  long ended = 0;
  while (const auto seen = ring.wait_for(500)) {
    probe::expect_equal(seen->result, page, "a write beside");
    ++ended;
  }
  missing.give();
  for (long i = ended; i <= static_cast<long>(files.size()); ++i) {
    probe::expect_equal(ring.wait().result, page, "a write after the stuck one has gone on");
  }
  return static_cast<long>(files.size()) - ended;
}

void show() {
  probe::temp_dir dir;
  std::vector<probe::descriptor> files;
  for (unsigned i = 0; i < files_beside; ++i) files.push_back(dir.unnamed_file());
  const probe::descriptor stuck = dir.unnamed_file();
  const long buffered = held_up(stuck, files);
  std::printf("%ld of %u buffered writes to other files wait\n", buffered, files_beside);
  if (buffered == 0) probe::skip("buffered writes here need no worker of the ring");
  probe::expect(buffered < files_beside / 8, "only some wait");

  const long at_once = held_up(stuck, files, IOSQE_ASYNC);
  std::printf("%ld of %u with IOSQE_ASYNC wait\n", at_once, files_beside);
  probe::expect_equal(at_once, 0, "writes with IOSQE_ASYNC held up");

  for (const probe::descriptor& file : files) probe::make_direct(file.get());
  const long direct = held_up(stuck, files);
  std::printf("%ld of %u direct writes to other files wait\n", direct, files_beside);
  probe::expect_equal(direct, 0, "direct writes held up");
}

}  // namespace

int main() { return probe::run(show); }
