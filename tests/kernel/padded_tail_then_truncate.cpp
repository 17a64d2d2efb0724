// A direct write whose tail is padded to the block, then ftruncate to the true length, leaves a
// file of exactly that content and length; growing it again shows zeroes, not the padding.
#include <algorithm>
#include <string>

#include "probe.hpp"

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t true_bytes = page + 905;
constexpr std::size_t padded_bytes = 2 * page;

std::string content_of(int fd, std::size_t bytes) {
  std::string content(bytes, '?');
  probe::expect_equal(::pread(fd, content.data(), bytes, 0), static_cast<long>(bytes), "pread");
  return content;
}

off_t size_of(int fd) {
  struct stat info {};
  probe::must(::fstat(fd, &info), "fstat");
  return info.st_size;
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const int buffered_flags = static_cast<int>(probe::must(::fcntl(file.get(), F_GETFL), "F_GETFL"));
  // The blocks the file will have, as the receiver reserves them before the first byte.
  if (::fallocate(file.get(), 0, 0, static_cast<off_t>(true_bytes)) < 0 && errno != EOPNOTSUPP) {
    probe::fail("fallocate: " + probe::in_words(-errno));
  }
  probe::make_direct(file.get());

  const probe::pages memory(padded_bytes);
  std::fill_n(memory.data(), padded_bytes, 'p');  // the padding would show if it stayed
  for (std::size_t i = 0; i < true_bytes; ++i) memory.data()[i] = static_cast<char>('a' + i % 26);

  probe::ring ring;
  probe::expect_equal(ring.perform([&](io_uring_sqe* sqe) {
    ::io_uring_prep_write(sqe, file.get(), memory.data(), padded_bytes, 0);
  }),
                      padded_bytes, "the padded write");
  probe::expect_equal(size_of(file.get()), padded_bytes, "size after the padded write");
  probe::must(::ftruncate(file.get(), true_bytes), "ftruncate");
  probe::must(::fdatasync(file.get()), "fdatasync");
  probe::expect_equal(size_of(file.get()), true_bytes, "size after ftruncate");

  probe::must(::fcntl(file.get(), F_SETFL, buffered_flags), "F_SETFL");
  const std::string wanted(memory.data(), true_bytes);
  probe::expect(content_of(file.get(), true_bytes) == wanted, "the content is the true one");

  probe::must(::ftruncate(file.get(), padded_bytes), "ftruncate to the padded length");
  const std::string grown = content_of(file.get(), padded_bytes);
  probe::expect(grown.substr(true_bytes) == std::string(padded_bytes - true_bytes, '\0'),
                "the file grows by zeroes, not by the padding");
}

}  // namespace

int main() { return probe::run(show); }
