// AF_UNIX stream sockets with a name in the filesystem: a listener for its owner alone, and who the
// peer is.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "kernel/fd.hpp"
#include "kernel/socket.hpp"
#include "sluice/result.hpp"

namespace sluice::kernel {

// Owns the descriptor and the name.
class unix_listener {
 public:
  // Listens at `path`, which nobody but its owner can ever reach: mode 0600 from the first moment,
  // whatever the umask (which can only take more away). A socket whose process is gone is replaced.
  // Errors: EADDRINUSE when somebody listens there, EEXIST when `path` is there and no socket,
  // ENAMETOOLONG above unix_path_bytes_max, and what bind(2) and rename(2) say.
  static result<unix_listener> open(const std::string& path, socket_mode mode, int backlog);
  unix_listener(unix_listener&&) noexcept = default;
  unix_listener& operator=(unix_listener&& other) noexcept;
  ~unix_listener() { close(); }

  // Takes the name away, if it still leads here, then closes.
  void close();
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  unix_listener() = default;
  result<void> bind_beside(const std::string& path);
  result<void> take_name(const std::string& path);
  result<void> replace(const std::string& path);

  unique_fd fd_;
  std::string name_;  // absolute, so that a chdir(2) does not mislead close()
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// sun_path has room for 107 bytes and its NUL; the name beside, under which a socket is bound
// first, is 7 longer.
inline constexpr std::size_t unix_path_bytes_max = 100;

// The effective user of the peer when it called connect(2), by SO_PEERCRED.
[[nodiscard]] result<uid_t> peer_user(int fd);

// Sends what the kernel takes at once and never waits: for last words.
void send_now(int fd, std::string_view text);

}  // namespace sluice::kernel
