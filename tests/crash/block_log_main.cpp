// One file, `disk`, served by FUSE: the backing file of a loop device. Everything that reaches it
// is appended to a log before it is answered: each write with its data, each flush, each range made
// zero. From the log every state of the disk that a power cut could have left can be built again.
//
//   block_log STORE LOG MOUNT_POINT
//
// STORE holds the content, its size is the size of the disk. The log is a sequence of records: a
// record_head in the byte order of the machine, then, for a write, its bytes. A record that is
// wholly in the log has happened; so the size of the log is the time that acknowledgements are
// dated with. One thread: records are in the order of their answers.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string_view>

#include "support/fuse_server.hpp"

namespace {

enum class record_kind : std::uint32_t { write = 1, flush = 2, zero = 3 };

struct record_head {
  record_kind kind;
  std::uint32_t reserved = 0;
  std::uint64_t offset;
  std::uint64_t bytes;  // of the range; data follows only after a write
};
static_assert(sizeof(record_head) == 24, "tests/crash/block_log.py reads it");

constexpr std::string_view disk_path = "/disk";
int store = -1;
int log_file = -1;

using support::told;

// A log with a hole in it would make a liar of every test: the disk fails instead.
int append(record_head head, const char* data, std::size_t data_bytes) {
  const iovec parts[2] = {{&head, sizeof head}, {const_cast<char*>(data), data_bytes}};
  const ssize_t put = ::writev(log_file, parts, data_bytes > 0 ? 2 : 1);
  return put == static_cast<ssize_t>(sizeof head + data_bytes) ? 0 : -EIO;
}

bool is_disk(const char* path) { return path == disk_path; }

void* init(fuse_conn_info*, fuse_config* config) {
  config->nullpath_ok = 1;
  return nullptr;
}

int get_attributes(const char* path, struct stat* into, fuse_file_info*) {
  if (path != nullptr && std::string_view(path) == "/") {
    into->st_mode = S_IFDIR | 0700;
    into->st_nlink = 2;
    return 0;
  }
  if (path != nullptr && !is_disk(path)) return -ENOENT;
  struct stat whole{};
  if (::fstat(store, &whole) != 0) return -errno;
  into->st_mode = S_IFREG | 0600;
  into->st_nlink = 1;
  into->st_size = whole.st_size;
  into->st_blocks = whole.st_blocks;
  return 0;
}

// Without the page cache: a write is in the log before the loop device hears of its end.
int open_disk(const char* path, fuse_file_info* fi) {
  if (!is_disk(path)) return -ENOENT;
  fi->direct_io = 1;
  return 0;
}

int read_disk(const char*, char* into, std::size_t bytes, off_t offset, fuse_file_info*) {
  return told(::pread(store, into, bytes, offset));
}

int write_disk(const char*, const char* from, std::size_t bytes, off_t offset, fuse_file_info*) {
  if (::pwrite(store, from, bytes, offset) != static_cast<ssize_t>(bytes)) return -EIO;
  const record_head head{
      .kind = record_kind::write, .offset = static_cast<std::uint64_t>(offset), .bytes = bytes};
  const int logged = append(head, from, bytes);
  return logged != 0 ? logged : static_cast<int>(bytes);
}

int flush_disk(const char*, int, fuse_file_info*) {
  return append({.kind = record_kind::flush, .offset = 0, .bytes = 0}, nullptr, 0);
}

// What the loop device makes of a discard and of a request for zeroes.
int make_zero(const char*, int mode, off_t offset, off_t bytes, fuse_file_info*) {
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) return -EOPNOTSUPP;
  const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (::fallocate(store, hole, offset, bytes) != 0) return -errno;
  return append({.kind = record_kind::zero,
                 .offset = static_cast<std::uint64_t>(offset),
                 .bytes = static_cast<std::uint64_t>(bytes)},
                nullptr, 0);
}

fuse_operations operations() {
  fuse_operations o{};
  o.init = init;
  o.getattr = get_attributes;
  o.open = open_disk;
  o.read = read_disk;
  o.write = write_disk;
  o.fsync = flush_disk;
  o.fallocate = make_zero;
  return o;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: block_log STORE LOG MOUNT_POINT\n");
    return 2;
  }
  store = ::open(arguments[1], O_RDWR | O_CLOEXEC);
  log_file = ::open(arguments[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (store < 0 || log_file < 0) {
    std::perror("block_log");
    return 2;
  }
  return support::serve_fuse(operations(), "fsname=block_log", arguments[3]);
}
