#include "ops/files.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "kernel/file_info.hpp"
#include "ops/table.hpp"
#include "support/temp_dir.hpp"
#include "support/told_op.hpp"

namespace {

using namespace sluice;
using support::request_of;

std::int64_t perform(const op_request& r) { return row_of(r.kind).perform(r); }

TEST_CASE("more vectors than the kernel takes at once are clipped and are a short result") {
  std::byte byte{};
  std::vector<iovec> many(IOV_MAX + 3, iovec{&byte, 1});
  for (const op_kind kind : {op_kind::writev, op_kind::readv, op_kind::writev_fixed}) {
    const op_request r = request_of(kind, 3, many.data(), many.size());
    io_uring_sqe sqe{};
    row_of(kind).fill_sqe(r, sqe);
    CHECK(sqe.len == IOV_MAX);
    CHECK(is_short(r, IOV_MAX));
    CHECK_FALSE(is_short(r, IOV_MAX + 3));
  }
}

TEST_CASE("a fixed operation names its registered buffer") {
  iovec part{nullptr, 100};
  for (const op_kind kind : {op_kind::write_fixed, op_kind::read_fixed, op_kind::writev_fixed}) {
    op_request r = request_of(kind, 3, &part, 1, 7);
    r.buffer_index = 5;
    io_uring_sqe sqe{};
    std::memset(&sqe, 0xff, sizeof sqe);
    row_of(kind).fill_sqe(r, sqe);
    CHECK(sqe.opcode == row_of(kind).opcode);
    const std::uint16_t index = sqe.buf_index;  // the field is packed
    CHECK(index == 5);
    CHECK(sqe.off == 7);
    CHECK(sqe.len == 1);
    CHECK(sqe.rw_flags == 0);
  }
}

TEST_CASE("performing a file operation gives the count or -errno of its system call") {
  const support::temp_dir dir;
  const int fd = dir.open("file");
  std::array<char, 5> text{'h', 'e', 'l', 'l', 'o'};
  CHECK(perform(request_of(op_kind::write, fd, text.data(), 5, 3)) == 5);
  std::array<char, 8> back{};
  CHECK(perform(request_of(op_kind::read, fd, back.data(), 8, 0)) == 8);
  CHECK(std::string_view(back.data() + 3, 5) == "hello");
  CHECK(perform(request_of(op_kind::read, fd, back.data(), 8, 100)) == 0);
  CHECK(perform(request_of(op_kind::ftruncate, fd, nullptr, 2)) == 0);
  CHECK(perform(request_of(op_kind::read, fd, back.data(), 8, 0)) == 2);
  CHECK(perform(request_of(op_kind::fsync, fd)) == 0);
  CHECK(perform(request_of(op_kind::close, fd)) == 0);
  CHECK(perform(request_of(op_kind::write, fd, text.data(), 5, 0)) == -EBADF);
  CHECK(perform(request_of(op_kind::close, fd)) == -EBADF);
}

TEST_CASE("a sync of a filesystem asks each file for an error of its own too") {
  const support::temp_dir dir;
  std::array<int, 3> files{dir.open("one"), dir.open("two"), -1};
  CHECK(perform(request_of(op_kind::syncfs, dir.fd())) == 0);
  CHECK(perform(request_of(op_kind::syncfs, files[0], files.data(), 2)) == 0);
  CHECK(perform(request_of(op_kind::syncfs, files[0], files.data(), 3)) == -EBADF);
  CHECK(perform(request_of(op_kind::syncfs, -1)) == -EBADF);
  for (const int fd : {files[0], files[1]}) CHECK(perform(request_of(op_kind::close, fd)) == 0);
}

TEST_CASE("where syncfs is not known to be enough, a sync of the filesystem is one of each file") {
  const int there = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  REQUIRE(there >= 0);
  REQUIRE(kernel::filesystem_of(there).syncfs_distrust() != nullptr);
  const std::array<int, 1> files{there};
  const op_request r = request_of(op_kind::syncfs, there, const_cast<int*>(files.data()), 1);
  CHECK(perform(r) == -EINVAL);  // fdatasync(2) there; syncfs(2) would be 0
  CHECK(perform(request_of(op_kind::close, there)) == 0);
}

TEST_CASE("vectors are written in their order, registered or not, and read back into others") {
  const support::temp_dir dir;
  for (const op_kind kind : {op_kind::writev, op_kind::writev_fixed}) {
    const int fd = dir.open("file");
    std::array<char, 6> text{'a', 'b', 'c', 'd', 'e', 'f'};
    std::array<iovec, 2> parts{iovec{text.data() + 4, 2}, iovec{text.data(), 3}};
    op_request writing = request_of(kind, fd, parts.data(), 2, 1);
    writing.buffer_index = 9;  // of no meaning to a system call
    CHECK(perform(writing) == 5);
    std::array<char, 6> back{};
    parts = {iovec{back.data() + 3, 3}, iovec{back.data(), 3}};
    CHECK(perform(request_of(op_kind::readv, fd, parts.data(), 2, 0)) == 6);
    CHECK(std::string_view(back.data(), 6) == std::string_view("abc\0ef", 6));
    CHECK(perform(request_of(op_kind::close, fd)) == 0);
    CHECK(perform(writing) == -EBADF);
  }
}

TEST_CASE("a splice names both ends, each with its offset or none") {
  op_request r = request_of(op_kind::splice, 77);
  r.fd2 = 78;
  r.offset = 11;
  r.offset2 = op_no_offset;
  r.length = 4096;
  r.flags = 2;
  io_uring_sqe sqe{};
  row_of(op_kind::splice).fill_sqe(r, sqe);
  CHECK(sqe.fd == 77);
  CHECK(sqe.splice_fd_in == 78);
  CHECK(sqe.off == 11);
  CHECK(sqe.splice_off_in == op_no_offset);
  CHECK(sqe.len == 4096);
  CHECK(sqe.splice_flags == 2);
}

}  // namespace
