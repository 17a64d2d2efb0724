// A socket that was given pages of the cache sends what is in them when the peer takes it: bytes
// written to the file after sendfile has returned, and the zeroes of a truncation inside a page.
#include <sys/sendfile.h>

#include "probe.hpp"

namespace {

constexpr std::size_t bytes = 4096;

// Sends a page of 'a' over TCP, changes the file, and gives what arrives. On
// loopback the bytes wait in the receiver, still in the page itself.
template <class Change>
std::string sent_before(Change change) {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const std::string page(bytes, 'a');
  probe::expect_equal(probe::result_of(::pwrite(file.get(), page.data(), page.size(), 0)), bytes,
                      "pwrite");
  const auto [near, far] = probe::tcp_pair();
  off_t offset = 0;
  probe::expect_equal(probe::result_of(::sendfile(near.get(), file.get(), &offset, bytes)), bytes,
                      "sendfile");
  change(file.get());
  std::string arrived(bytes, '?');
  probe::expect_equal(
      probe::result_of(::recv(far.get(), arrived.data(), arrived.size(), MSG_WAITALL)), bytes,
      "recv");
  return arrived;
}

void show() {
  const std::string overwritten = sent_before([](int file) {
    probe::expect_equal(probe::result_of(::pwrite(file, "b", 1, 0)), 1, "pwrite of one byte");
  });
  probe::expect_equal(overwritten[0], 'b', "the first byte that arrives");
  const std::string cut =
      sent_before([](int file) { probe::must(::ftruncate(file, 100), "ftruncate"); });
  probe::expect_equal(cut[99], 'a', "the byte before the cut");
  probe::expect_equal(cut[100], '\0', "the byte behind the cut");
}

}  // namespace

int main() { return probe::run(show); }
