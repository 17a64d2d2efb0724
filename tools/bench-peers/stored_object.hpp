// The file an object is received into: fresh, named obj-C-N (C counts connections, N the objects
// of one). Gone again when it is dropped before store() said yes.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "peer.hpp"

namespace peer {

class stored_object {
 public:
  // `flags` beside O_CREAT | O_TRUNC | O_CLOEXEC. In mode durable the name is a temporary one.
  stored_object(const settings& options, int dir, std::uint64_t connection, std::uint64_t object,
                int flags)
      : dir_(dir),
        durable_name_(options.mode == "durable"),
        sync_(options.sync || durable_name_),
        name_("obj-" + std::to_string(connection) + "-" + std::to_string(object)),
        created_(durable_name_ ? name_ + ".tmp" : name_),
        file_(::openat(dir, created_.c_str(), O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0644)) {}
  stored_object(const stored_object&) = delete;
  stored_object& operator=(const stored_object&) = delete;
  ~stored_object() {
    if (file_) ::unlinkat(dir_, created_.c_str(), 0);
  }

  int fd() const { return file_.get(); }
  explicit operator bool() const { return static_cast<bool>(file_); }

  // After the last byte is written: durable and named as asked, then closed. The order is the
  // promise: data, name, directory.
  bool store() {
    if (sync_ && ::fdatasync(fd()) != 0) return false;
    if (durable_name_ &&
        (::renameat(dir_, created_.c_str(), dir_, name_.c_str()) != 0 || ::fsync(dir_) != 0))
      return false;
    file_ = owned_fd();
    return true;
  }

 private:
  const int dir_;
  const bool durable_name_;
  const bool sync_;
  const std::string name_;
  const std::string created_;
  owned_fd file_;
};

// Space before data, so that the writes allocate nothing. Not being able to is no failure: only
// having none is.
inline bool preallocate(int file, std::uint64_t bytes) {
  if (bytes == 0) return true;
  while (::fallocate(file, 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) return errno == EOPNOTSUPP;
  }
  return true;
}

}  // namespace peer
