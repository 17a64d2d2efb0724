// A write and an fsync that are in flight together run side by side: the fsync completes with 0
// while the write has not moved a byte. Only writes that have completed are covered by it.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "probe.hpp"

namespace {

constexpr std::size_t page = 4096;

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  probe::ring ring;

  // A page that is missing until we provide it: the write that reads it stands still meanwhile.
  const probe::pages source(page);
  const probe::pages content(page);
  std::memset(content.data(), 'x', page);
  const probe::descriptor faults(
      static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (faults.get() < 0) probe::skip("userfaultfd is refused: " + probe::in_words(-errno));
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  probe::must(::ioctl(faults.get(), UFFDIO_API, &api), "UFFDIO_API");
  const auto address = reinterpret_cast<std::uintptr_t>(source.data());
  uffdio_register watched{};
  watched.range = {.start = address, .len = page};
  watched.mode = UFFDIO_REGISTER_MODE_MISSING;
  probe::must(::ioctl(faults.get(), UFFDIO_REGISTER, &watched), "UFFDIO_REGISTER");

  // IOSQE_ASYNC: a worker of the ring stands still, not this thread.
  ring.queue(
      1, [&](io_uring_sqe* sqe) { ::io_uring_prep_write(sqe, file.get(), source.data(), page, 0); },
      IOSQE_ASYNC);
  ring.submit();
  const bool stands_still = probe::becomes_ready(faults.get(), POLLIN, probe::patience_ms);
  ring.queue(2, [&](io_uring_sqe* sqe) { ::io_uring_prep_fsync(sqe, file.get(), 0); });
  ring.submit();
  const auto first = ring.wait_for(2000);

  uffdio_copy provided{};
  provided.dst = address;
  provided.src = reinterpret_cast<std::uintptr_t>(content.data());
  provided.len = page;
  probe::must(::ioctl(faults.get(), UFFDIO_COPY, &provided), "UFFDIO_COPY");
  probe::expect(stands_still, "the write has begun and waits for its page");
  probe::expect(first.has_value() && first->user_data == 2,
                "the fsync does not wait for the write");
  probe::expect_equal(first->result, 0, "the fsync beside the write");
  const probe::completion second = ring.wait();
  probe::expect_equal(static_cast<long>(second.user_data), 1, "the write is the second to end");
  probe::expect_equal(second.result, page, "the write");
}

}  // namespace

int main() { return probe::run(show); }
