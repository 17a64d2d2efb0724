// WRITE_FIXED takes any sub-range of a registered buffer, whatever its start and length; a range
// that leaves the buffer is EFAULT. A plain recv fills registered memory without being told, and
// refuses to be told.
#include "probe.hpp"

namespace {

constexpr std::size_t buffer_bytes = 65536;

void show() {
  probe::ring ring;
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const probe::pages memory(2 * buffer_bytes);  // only the first half is registered
  for (std::size_t i = 0; i < memory.bytes(); ++i)
    memory.data()[i] = static_cast<char>(i * 7 % 251);

  const iovec registered{memory.data(), buffer_bytes};
  const int refused = ::io_uring_register_buffers(ring.get(), &registered, 1);
  if (refused == -ENOMEM) probe::skip("RLIMIT_MEMLOCK does not allow one registered buffer");
  probe::must(refused < 0 ? (errno = -refused, -1) : 0, "register_buffers");

  const auto write_fixed = [&](std::size_t start, unsigned bytes, int index) {
    return ring.perform([&](io_uring_sqe* sqe) {
      ::io_uring_prep_write_fixed(sqe, file.get(), memory.data() + start, bytes, 0, index);
    });
  };
  constexpr std::size_t starts[] = {0, 1, 123, 4095, 4096, 40961};
  for (const std::size_t start : starts) {
    constexpr unsigned bytes = 10'007;
    probe::expect_equal(write_fixed(start, bytes, 0), bytes,
                        "WRITE_FIXED from byte " + std::to_string(start));
    std::string back(bytes, '\0');
    probe::expect_equal(::pread(file.get(), back.data(), bytes, 0), bytes, "pread");
    probe::expect(std::memcmp(back.data(), memory.data() + start, bytes) == 0,
                  "the file holds the sub-range");
  }
  probe::expect_equal(write_fixed(buffer_bytes - 1, 1, 0), 1, "WRITE_FIXED of the last byte");
  probe::expect_equal(write_fixed(buffer_bytes - 1, 2, 0), -EFAULT, "WRITE_FIXED over the end");
  probe::expect_equal(write_fixed(buffer_bytes, 1, 0), -EFAULT, "WRITE_FIXED behind the end");
  probe::expect_equal(write_fixed(0, 1, 1), -EFAULT, "WRITE_FIXED with an empty buffer index");

  const auto [near, far] = probe::socket_pair();
  probe::send_all(far.get(), "payload");
  const int plain = ring.perform(
      [&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, near.get(), memory.data() + 13, 7, 0); });
  probe::expect_equal(plain, 7, "recv into registered memory");
  probe::expect(std::memcmp(memory.data() + 13, "payload", 7) == 0, "the bytes are in place");
  probe::expect_equal(write_fixed(13, 7, 0), 7, "WRITE_FIXED of what recv has put there");
  const int fixed = ring.perform([&](io_uring_sqe* sqe) {
    ::io_uring_prep_recv(sqe, near.get(), memory.data(), 7, 0);
    sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
    sqe->buf_index = 0;
  });
  probe::expect_equal(fixed, -EINVAL, "recv with IORING_RECVSEND_FIXED_BUF");
}

}  // namespace

int main() { return probe::run(show); }
