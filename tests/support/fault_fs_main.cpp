// A filesystem that passes everything through to a directory, and fails, cuts short or stops on
// order. One thread: the k-th request of a kind is the same one whenever the same things are done.
//
//   fault_fs BACKING MOUNT_POINT ORDERS_FD [direct_io] [wait_for_direct] [writeback]
//            [keep_no_attributes]
//
// ORDERS_FD is memory that holds a fault_orders (support/fault_fs.hpp starts it).
//   direct_io        no page cache, whatever the descriptor says
//   wait_for_direct  direct writes one at a time, their caller waiting: the kernel makes EIO of a
//                    short answer to any other, and io_uring_enter(2) waits with the caller
//   writeback        the kernel keeps written pages and writes them at its leisure, as for a disk,
//                    so that a failed write is told by the next sync
//   keep_no_attributes  the kernel asks anew at each stat(2)
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "support/fault_orders.hpp"
#include "support/fuse_server.hpp"

namespace {

using support::request_kind;

struct state {
  int backing = -1;
  support::fault_orders* orders = nullptr;
  bool direct_io = false;
  bool wait_for_direct = false;
  bool writeback = false;
  bool keep_no_attributes = false;
};
state here;

// Of a path as libfuse gives it: absolute within the filesystem.
const char* beneath(const char* path) { return path[1] == '\0' ? "." : path + 1; }

using support::told;
int handle(const fuse_file_info* fi) { return static_cast<int>(fi->fh); }

// Counts the request; what it must fail with, 0 for nothing. Stops here when that was the order.
int admit(request_kind kind) {
  support::request_orders& o = here.orders->of(kind);
  const std::uint64_t ordinal = ++o.seen;
  if (ordinal == o.stop_at) ::raise(SIGSTOP);
  const bool fails = o.fail_first != 0 && ordinal >= o.fail_first && ordinal <= o.fail_last;
  return fails ? -o.error : 0;
}

std::size_t bytes_to_take(std::size_t wanted) {
  support::fault_orders& o = *here.orders;
  const std::uint64_t every = o.short_every;
  if (every == 0 || o.of(request_kind::write).seen % every != 0 || wanted <= o.short_bytes) {
    return wanted;
  }
  ++o.shortened;
  return o.short_bytes;
}

std::size_t bytes_to_give(std::size_t wanted) {
  support::fault_orders& o = *here.orders;
  const std::uint64_t every = o.short_reads_every;
  if (every == 0 || o.of(request_kind::read).seen % every != 0 || wanted <= o.short_read_bytes) {
    return wanted;
  }
  ++o.shortened_reads;
  return o.short_read_bytes;
}

bool is_misaligned(const fuse_file_info* fi, std::size_t bytes, off_t offset) {
  if ((fi->flags & O_DIRECT) == 0) return false;
  support::fault_orders& o = *here.orders;
  ++o.direct_writes;
  const std::size_t unit = std::max<std::size_t>(o.direct_unit, 1);
  if (bytes % unit == 0 && static_cast<std::size_t>(offset) % unit == 0) return false;
  ++o.misaligned;
  return true;
}

// What the backing file is opened with: readable always, since the kernel reads the rest of a page
// it keeps; without O_DIRECT, since the bytes come from memory that is not aligned.
int backing_flags(int flags) {
  const int access = (flags & O_ACCMODE) == O_WRONLY ? O_RDWR : flags & O_ACCMODE;
  return (flags & ~(O_ACCMODE | O_DIRECT | O_APPEND)) | access | O_CLOEXEC;
}

int keep_open(int fd, fuse_file_info* fi) {
  if (fd < 0) return -errno;
  fi->fh = static_cast<std::uint64_t>(fd);
  fi->direct_io = here.direct_io ? 1 : 0;
  return 0;
}

void* init(fuse_conn_info* connection, fuse_config* config) {
  config->use_ino = 1;
  config->hard_remove = 1;  // a removed file stays with its descriptor, as everywhere
  config->nullpath_ok = 1;
  if (here.wait_for_direct) connection->want &= ~static_cast<unsigned>(FUSE_CAP_ASYNC_DIO);
  if (here.keep_no_attributes) config->attr_timeout = 0;
  if (here.writeback) connection->want |= FUSE_CAP_WRITEBACK_CACHE;
  here.orders->mounted = true;
  return nullptr;
}

int get_attributes(const char* path, struct stat* into, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::attributes); failure != 0) return failure;
  if (fi != nullptr) return told(::fstat(handle(fi), into));
  return told(::fstatat(here.backing, beneath(path), into, AT_SYMLINK_NOFOLLOW));
}

int make_directory(const char* path, mode_t mode) {
  return told(::mkdirat(here.backing, beneath(path), mode));
}

int remove_file(const char* path) { return told(::unlinkat(here.backing, beneath(path), 0)); }

int remove_directory(const char* path) {
  return told(::unlinkat(here.backing, beneath(path), AT_REMOVEDIR));
}

int rename_file(const char* from, const char* to, unsigned flags) {
  if (const int failure = admit(request_kind::rename); failure != 0) return failure;
  return told(::renameat2(here.backing, beneath(from), here.backing, beneath(to), flags));
}

int link_file(const char* from, const char* to) {
  return told(::linkat(here.backing, beneath(from), here.backing, beneath(to), 0));
}

int change_mode(const char* path, mode_t mode, fuse_file_info* fi) {
  if (fi != nullptr) return told(::fchmod(handle(fi), mode));
  return told(::fchmodat(here.backing, beneath(path), mode, 0));
}

int truncate_file(const char* path, off_t bytes, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::truncate); failure != 0) return failure;
  if (fi != nullptr) return told(::ftruncate(handle(fi), bytes));
  const int fd = ::openat(here.backing, beneath(path), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  const int done = told(::ftruncate(fd, bytes));
  ::close(fd);
  return done;
}

// The kernel sends times of its own when it keeps written pages.
int set_times(const char* path, const timespec times[2], fuse_file_info* fi) {
  if (fi != nullptr) return told(::futimens(handle(fi), times));
  return told(::utimensat(here.backing, beneath(path), times, AT_SYMLINK_NOFOLLOW));
}

int create_file(const char* path, mode_t mode, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::create); failure != 0) return failure;
  const int flags = backing_flags(fi->flags) | O_CREAT;
  return keep_open(::openat(here.backing, beneath(path), flags, mode), fi);
}

int open_file(const char* path, fuse_file_info* fi) {
  return keep_open(::openat(here.backing, beneath(path), backing_flags(fi->flags)), fi);
}

int read_file(const char*, char* into, std::size_t bytes, off_t offset, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::read); failure != 0) return failure;
  return told(::pread(handle(fi), into, bytes_to_give(bytes), offset));
}

int write_file(const char*, const char* from, std::size_t bytes, off_t offset, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::write); failure != 0) return failure;
  if (is_misaligned(fi, bytes, offset)) return -EINVAL;
  if (const std::uint32_t delay_us = here.orders->write_delay_us; delay_us > 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
  }
  const int taken = told(::pwrite(handle(fi), from, bytes_to_take(bytes), offset));
  if (taken > 0) here.orders->taken_bytes += static_cast<std::uint64_t>(taken);
  return taken;
}

int sync_file(const char*, int data_only, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::sync); failure != 0) return failure;
  return told(data_only != 0 ? ::fdatasync(handle(fi)) : ::fsync(handle(fi)));
}

int allocate(const char*, int mode, off_t offset, off_t bytes, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::allocate); failure != 0) return failure;
  return told(::fallocate(handle(fi), mode, offset, bytes));
}

int release(const char*, fuse_file_info* fi) {
  ::close(handle(fi));
  return 0;
}

int open_directory(const char* path, fuse_file_info* fi) {
  const int fd = ::openat(here.backing, beneath(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  fi->fh = static_cast<std::uint64_t>(fd);
  return 0;
}

int read_directory(const char*, void* into, fuse_fill_dir_t fill, off_t, fuse_file_info* fi,
                   fuse_readdir_flags) {
  const int fd = ::openat(handle(fi), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  DIR* listing = ::fdopendir(fd);
  while (const dirent* entry = ::readdir(listing)) {
    struct stat known{};
    known.st_ino = entry->d_ino;
    known.st_mode = static_cast<mode_t>(entry->d_type << 12);
    fill(into, entry->d_name, &known, 0, fuse_fill_dir_flags{});
  }
  ::closedir(listing);
  return 0;
}

int sync_directory(const char*, int, fuse_file_info* fi) {
  if (const int failure = admit(request_kind::sync_directory); failure != 0) return failure;
  return told(::fsync(handle(fi)));
}

int filesystem_info(const char*, struct statvfs* into) {
  if (const int failure = admit(request_kind::filesystem); failure != 0) return failure;
  return told(::fstatvfs(here.backing, into));
}

fuse_operations operations() {
  fuse_operations o{};
  o.init = init;
  o.getattr = get_attributes;
  o.mkdir = make_directory;
  o.unlink = remove_file;
  o.rmdir = remove_directory;
  o.rename = rename_file;
  o.link = link_file;
  o.chmod = change_mode;
  o.truncate = truncate_file;
  o.utimens = set_times;
  o.create = create_file;
  o.open = open_file;
  o.read = read_file;
  o.write = write_file;
  o.fsync = sync_file;
  o.fallocate = allocate;
  o.release = release;
  o.opendir = open_directory;
  o.readdir = read_directory;
  o.releasedir = release;
  o.fsyncdir = sync_directory;
  o.statfs = filesystem_info;
  return o;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    std::fprintf(stderr, "usage: fault_fs BACKING MOUNT_POINT ORDERS_FD [OPTION...]\n");
    return 2;
  }
  for (int i = 4; i < count; ++i) {
    const std::string_view option = arguments[i];
    if (option == "direct_io") here.direct_io = true;
    if (option == "wait_for_direct") here.wait_for_direct = true;
    if (option == "writeback") here.writeback = true;
    if (option == "keep_no_attributes") here.keep_no_attributes = true;
  }
  ::umask(0);
  here.backing = ::open(arguments[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  void* shared = ::mmap(nullptr, sizeof(support::fault_orders), PROT_READ | PROT_WRITE, MAP_SHARED,
                        std::atoi(arguments[3]), 0);
  if (here.backing < 0 || shared == MAP_FAILED) {
    std::perror("fault_fs");
    return 2;
  }
  here.orders = static_cast<support::fault_orders*>(shared);
  return support::serve_fuse(operations(), "fsname=fault_fs,default_permissions,allow_other",
                             arguments[2]);
}
