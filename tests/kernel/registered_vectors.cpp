// WRITEV_FIXED takes vectors from anywhere in one registered buffer, in any order and overlapping,
// whether the write is direct or cached. A vector that leaves the buffer, lies in another one or is
// empty is EFAULT, and then nothing is written. A write that no longer fits ends short, as others.
#include <sys/resource.h>
#include <sys/uio.h>

#include <array>
#include <csignal>
#include <span>
#include <vector>

#include "probe.hpp"

namespace {

constexpr int op_writev_fixed = 61;  // IORING_OP_WRITEV_FIXED
constexpr std::size_t buffer_bytes = 1 << 20;
constexpr std::size_t page = 4096;

struct bench {
  bench() : memory(2 * buffer_bytes) {
    ring.require(op_writev_fixed, "IORING_OP_WRITEV_FIXED");
    for (std::size_t i = 0; i < memory.bytes(); ++i)
      memory.data()[i] = static_cast<char>(i * 7 % 251 + i / page);
    const iovec buffers[2] = {{at(0), buffer_bytes}, {at(buffer_bytes), buffer_bytes}};
    const int refused = ::io_uring_register_buffers(ring.get(), buffers, 2);
    if (refused == -ENOMEM) probe::skip("RLIMIT_MEMLOCK does not allow two registered buffers");
    probe::must(refused < 0 ? (errno = -refused, -1) : 0, "register_buffers");
  }
  char* at(std::size_t offset) const { return memory.data() + offset; }

  int write(std::span<const iovec> parts, int index) {
    return ring.perform([&](io_uring_sqe* sqe) {
      ::io_uring_prep_rw(op_writev_fixed, sqe, file.get(), parts.data(),
                         static_cast<unsigned>(parts.size()), 0);
      sqe->buf_index = static_cast<std::uint16_t>(index);
    });
  }
  void expect_in_file(std::span<const iovec> parts, const char* what) const {
    std::string wanted;
    for (const iovec& part : parts)
      wanted.append(static_cast<const char*>(part.iov_base), part.iov_len);
    std::string back(wanted.size(), '\0');
    probe::expect_equal(::pread(file.get(), back.data(), back.size(), 0),
                        static_cast<long>(wanted.size()), what);
    probe::expect(back == wanted, what);
  }

  probe::ring ring;
  probe::temp_dir dir;
  probe::descriptor file = dir.unnamed_file();
  probe::pages memory;
};

void show_places(bench& b) {
  const std::vector<iovec> odd{
      {b.at(70'001), 5000}, {b.at(3), 1}, {b.at(buffer_bytes - 4097), 4097}, {b.at(70'001), 5000}};
  probe::expect_equal(b.write(odd, 0), 14'098, "vectors of odd places and lengths, one twice");
  b.expect_in_file(odd, "the file holds them in the order of the vectors");
  std::vector<iovec> many;
  for (std::size_t i = 0; i < 64; ++i) many.push_back({b.at(i * 37 % 64 * 16'384), 16'384});
  probe::expect_equal(b.write(many, 0), buffer_bytes, "more vectors than a request has room for");
  b.expect_in_file(many, "the file holds all of them");
}

void show_refusals(bench& b) {
  probe::must(::ftruncate(b.file.get(), 0), "ftruncate");
  const iovec inside{b.at(0), page};
  const std::array<std::array<iovec, 2>, 4> refused{{
      {inside, {b.at(buffer_bytes - page), page + 1}},  // over the end
      {inside, {b.at(buffer_bytes), page}},             // in the buffer behind, registered too
      {iovec{b.at(buffer_bytes), page}, inside},
      {inside, {b.at(page), 0}},
  }};
  for (const auto& parts : refused)
    probe::expect_equal(b.write(parts, 0), -EFAULT, "a vector that is not in the buffer, or empty");
  probe::expect_equal(b.write(refused[1], 1), -EFAULT, "the same by the buffer behind");
  probe::expect_equal(b.write(refused[1], 2), -EFAULT, "an index without a buffer");
  probe::expect_equal(::lseek(b.file.get(), 0, SEEK_END), 0, "nothing was written");
}

void show_short_result(bench& b) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{3 * page + 100, RLIM_INFINITY};
  probe::must(::setrlimit(RLIMIT_FSIZE, &limit), "setrlimit");
  const std::vector<iovec> parts{{b.at(8 * page), 2 * page}, {b.at(0), 2 * page}};
  probe::expect_equal(b.write(parts, 0), 3 * page + 100, "a write beyond the largest file");
  const std::vector<iovec> moved{{b.at(8 * page), 2 * page}, {b.at(0), page + 100}};
  b.expect_in_file(moved, "the file holds the first bytes");
}

void show() {
  {
    bench b;
    show_places(b);
    show_refusals(b);
    probe::in_child([] {
      bench limited;
      show_short_result(limited);
    });
  }
  bench b;
  probe::make_direct(b.file.get());
  std::vector<iovec> blocks;
  for (std::size_t i = 0; i < 32; ++i) blocks.push_back({b.at(i * 29 % 64 * 16'384), 16'384});
  const int flags = static_cast<int>(probe::must(::fcntl(b.file.get(), F_GETFL), "F_GETFL"));
  probe::expect_equal(b.write(blocks, 0), 32 * 16'384, "a direct write of 32 blocks");
  // Reading back is into memory of no alignment.
  probe::must(::fcntl(b.file.get(), F_SETFL, flags & ~O_DIRECT), "F_SETFL");
  b.expect_in_file(blocks, "the file holds the blocks");
}

}  // namespace

int main() { return probe::run(show); }
