#include "kernel/file_extents.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "kernel/fd.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;

constexpr std::uint64_t mib = 1 << 20;

file_piece piece_at(int fd, std::uint64_t offset) {
  file_piece piece{.fd = fd, .offset = offset};
  REQUIRE(find_piece(piece) == 0);
  return piece;
}

}  // namespace

TEST_CASE("a file is told in pieces of data and holes, from any offset to its end") {
  const support::temp_dir dir;
  const unique_fd fd(dir.open("file"));
  const std::vector<char> data(mib, 'x');
  REQUIRE(::pwrite(fd.get(), data.data(), data.size(), mib) == static_cast<ssize_t>(mib));
  REQUIRE(::ftruncate(fd.get(), 3 * mib + 1) == 0);
  if (!piece_at(fd.get(), 0).is_hole) return;  // a filesystem that knows no holes
  CHECK(piece_at(fd.get(), 0).bytes == mib);
  CHECK(piece_at(fd.get(), 5).bytes == mib - 5);
  CHECK_FALSE(piece_at(fd.get(), mib).is_hole);
  CHECK(piece_at(fd.get(), mib).bytes == mib);
  CHECK(piece_at(fd.get(), mib + 7).bytes == mib - 7);
  CHECK(piece_at(fd.get(), 2 * mib).is_hole);
  CHECK(piece_at(fd.get(), 2 * mib).bytes == mib + 1);
  CHECK(piece_at(fd.get(), 3 * mib).bytes == 1);
  file_piece behind{.fd = fd.get(), .offset = 3 * mib + 1};
  CHECK(find_piece(behind) == -ENXIO);
  file_piece none{.fd = -1};
  CHECK(find_piece(none) == -EBADF);
}

TEST_CASE(
    "pieces are appended without their holes, as many as are wanted, to the end of the source") {
  const support::temp_dir dir;
  const unique_fd from(dir.open("from"));
  const unique_fd to(dir.open("to"));
  const std::vector<char> data(mib, 'x');
  for (const std::uint64_t at : {1 * mib, 3 * mib}) {
    REQUIRE(::pwrite(from.get(), data.data(), data.size(), static_cast<off_t>(at)) ==
            static_cast<ssize_t>(mib));
  }
  if (!piece_at(from.get(), 0).is_hole) return;  // a filesystem that knows no holes
  appended_range range{.source = from.get(), .target = to.get(), .bytes = 5 * mib};
  range.data_max = 8 * mib;
  range.pieces_max = 3;
  append_pieces(range);
  CHECK(range.failure == 0);
  CHECK(range.hole_bytes == 2 * mib);
  CHECK(range.data_bytes == mib);
  range.pieces_max = 99;
  append_pieces(range);
  CHECK(range.failure == -ENXIO);  // the range is longer than the source
  CHECK(range.data_bytes == 2 * mib);
  CHECK(dir.read("to") == dir.read("from"));
  CHECK(piece_at(to.get(), 0).bytes == mib);
  appended_range part{.source = from.get(),
                      .target = to.get(),
                      .source_offset = mib,
                      .target_offset = 4 * mib,
                      .bytes = mib,
                      .data_max = 5,
                      .pieces_max = 9};
  append_pieces(part);
  CHECK(part.failure == 0);
  CHECK(part.data_bytes == 5);
  CHECK(dir.read("to").size() == 4 * mib + 5);
  appended_range none{.source = -1, .target = to.get(), .bytes = 1, .data_max = 1, .pieces_max = 1};
  append_pieces(none);
  CHECK(none.failure == -EBADF);
}

TEST_CASE("sharing blocks says that it cannot, or shares them") {
  const support::temp_dir dir;
  const unique_fd from(dir.open("from"));
  const unique_fd to(dir.open("to"));
  REQUIRE(::write(from.get(), "abc", 3) == 3);
  const std::int64_t shared = share_blocks({.source = from.get(), .target = to.get(), .bytes = 3});
  CHECK((shared == 0 || shared == -EOPNOTSUPP || shared == -ENOTTY || shared == -EINVAL));
  CHECK(dir.read("to") == (shared == 0 ? "abc" : ""));
  CHECK(share_blocks({.source = -1, .target = to.get(), .bytes = 3}) < 0);
}

TEST_CASE("copy_file_range is there, or the reason is told") {
  const int refusal = try_copy_file_range();
  CHECK((refusal == 0 || refusal == ENOSYS || refusal == EPERM));
}
