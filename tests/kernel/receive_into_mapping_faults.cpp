// A receive into a mapped file says EFAULT where a page cannot be had, be it behind the end of the
// file or for want of space: no SIGBUS. What fallocate reserved is to be had on a full filesystem.
#include "small_filesystem.hpp"

namespace {

constexpr std::size_t mib = 1 << 20;

class mapping {
 public:
  mapping(int fd, std::size_t bytes)
      : bytes_(bytes), data_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) {
    if (data_ == MAP_FAILED) probe::fail("mmap: " + probe::in_words(-errno));
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() { ::munmap(data_, bytes_); }
  char* data() const { return static_cast<char*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

// The result of a receive of a few bytes to there.
long receive_to(char* at) {
  auto [near, far] = probe::socket_pair();
  probe::send_all(far.get(), "some bytes");
  return probe::result_of(::recv(near.get(), at, 10, 0));
}

long receive_by_ring_to(char* at) {
  probe::ring ring;
  auto [near, far] = probe::socket_pair();
  probe::send_all(far.get(), "some bytes");
  const int fd = near.get();
  return ring.perform([&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, fd, at, 10, 0); });
}

probe::descriptor file_in(int root, const char* name) {
  return probe::descriptor(static_cast<int>(
      probe::must(::openat(root, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600), "openat")));
}

void show(int root) {
  const probe::descriptor reserved = file_in(root, "reserved");
  probe::must(::fallocate(reserved.get(), 0, 0, mib), "fallocate");
  const probe::descriptor sparse = file_in(root, "sparse");
  probe::must(::ftruncate(sparse.get(), 2 * mib), "ftruncate");
  const probe::descriptor filler = file_in(root, "filler");
  const std::string block(65'536, 'x');
  while (::write(filler.get(), block.data(), block.size()) > 0) continue;
  probe::expect_equal(-errno, -ENOSPC, "the filesystem is full");

  const mapping without(sparse.get(), 2 * mib);
  probe::expect_equal(receive_to(without.data()), -EFAULT, "a page that there is no space for");
  probe::expect_equal(receive_by_ring_to(without.data()), -EFAULT, "the same by the ring");
  const mapping with(reserved.get(), 2 * mib);
  for (std::size_t at = 0; at < mib; at += 4096)
    probe::expect_equal(receive_to(with.data() + at), 10, "a page that was reserved");
  probe::expect_equal(receive_to(with.data() + mib), -EFAULT, "a page behind the end");
}

}  // namespace

int main() {
  return probe::run([] { probe::on_small_tmpfs(4 * mib, show); });
}
