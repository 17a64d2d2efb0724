// F_GET_SEALS answers for a file of tmpfs and is EINVAL for one of a disk's filesystem, a
// directory, a pipe or a socket.
#include <linux/magic.h>
#include <sys/statfs.h>

#include "probe.hpp"

namespace {

long seals_of(int fd) { return probe::result_of(::fcntl(fd, F_GET_SEALS)); }

bool is_tmpfs(int fd) {
  struct statfs filesystem{};
  probe::must(::fstatfs(fd, &filesystem), "fstatfs");
  return filesystem.f_type == TMPFS_MAGIC;
}

void show() {
  const probe::descriptor memory(
      static_cast<int>(probe::must(::memfd_create("seals", MFD_CLOEXEC), "memfd_create")));
  probe::expect(is_tmpfs(memory.get()), "memory of memfd_create is of tmpfs");
  probe::expect(seals_of(memory.get()) >= 0, "its seals are told");
  const int named = ::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  const probe::descriptor mounted(named);
  if (named >= 0 && is_tmpfs(named)) {
    probe::expect_equal(seals_of(named), F_SEAL_SEAL, "seals of a file of a mounted tmpfs");
  }

  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  if (is_tmpfs(file.get())) probe::skip("no directory on a disk: set TMPDIR");
  probe::expect_equal(seals_of(file.get()), -EINVAL, "seals of a file on a disk");
  probe::expect_equal(seals_of(dir.fd()), -EINVAL, "seals of a directory");
  const probe::descriptor_pair pipe = probe::pipe_pair();
  probe::expect_equal(seals_of(pipe.first.get()), -EINVAL, "seals of a pipe");
  const probe::descriptor_pair sockets = probe::socket_pair();
  probe::expect_equal(seals_of(sockets.first.get()), -EINVAL, "seals of a socket");
}

}  // namespace

int main() { return probe::run(show); }
