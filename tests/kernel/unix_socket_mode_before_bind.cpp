// The name that bind(2) makes for an AF_UNIX socket gets the mode that fchmod(2) gave the unbound
// socket, whatever the umask; changed after bind there would be a moment with a wider one.
#include <sys/un.h>

#include "probe.hpp"

namespace {

void show() {
  const probe::temp_dir dir;
  const mode_t before = ::umask(0);
  const probe::descriptor socket(
      static_cast<int>(probe::must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")));
  probe::must(::fchmod(socket.get(), S_IRUSR | S_IWUSR), "fchmod of the unbound socket");
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(dir.fd()) + "/bound";
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  const int bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 ? 0 : -errno;
  ::umask(before);
  probe::expect_equal(bound, 0, "bind");
  struct stat made{};
  probe::must(::fstatat(dir.fd(), "bound", &made, AT_SYMLINK_NOFOLLOW), "fstatat");
  probe::expect_equal(made.st_mode & 07777, 0600, "mode of the name");
}

}  // namespace

int main() { return probe::run(show); }
