#include "ops/files.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "kernel/file_info.hpp"
#include "kernel/uapi.hpp"
#include "ops/requests.hpp"
#include "ops/table.hpp"

namespace sluice::ops {
namespace {

void set_read_write_flags(const op_request& r, io_uring_sqe& sqe) { sqe.rw_flags = flags_of(r); }

// splice(2), copy_file_range(2) and the ring say "no offset" with a null pointer, or -1.
loff_t* place_of(std::uint64_t offset, loff_t& place) {
  place = static_cast<loff_t>(offset);
  return offset == op_no_offset ? nullptr : &place;
}

}  // namespace

void fill_read(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_read(&sqe, r.fd, r.data, clipped(r.length), r.offset);
  set_read_write_flags(r, sqe);
}
void fill_read_fixed(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_read_fixed(&sqe, r.fd, r.data, clipped(r.length), r.offset, r.buffer_index);
  set_read_write_flags(r, sqe);
}
std::int64_t perform_read(const op_request& r) {
  if (r.flags == 0) return answer(::pread(r.fd, r.data, clipped(r.length), offset_of(r)));
  const iovec one{r.data, clipped(r.length)};
  return answer(::preadv2(r.fd, &one, 1, offset_of(r), flags_of(r)));
}

void fill_write(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_write(&sqe, r.fd, r.data, clipped(r.length), r.offset);
  set_read_write_flags(r, sqe);
}
void fill_write_fixed(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_write_fixed(&sqe, r.fd, r.data, clipped(r.length), r.offset, r.buffer_index);
  set_read_write_flags(r, sqe);
}
std::int64_t perform_write(const op_request& r) {
  if (r.flags == 0) return answer(::pwrite(r.fd, r.data, clipped(r.length), offset_of(r)));
  const iovec one{r.data, clipped(r.length)};
  return answer(::pwritev2(r.fd, &one, 1, offset_of(r), flags_of(r)));
}

void fill_readv(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_readv(&sqe, r.fd, vectors(r), vector_count(r), r.offset);
  set_read_write_flags(r, sqe);
}
std::int64_t perform_readv(const op_request& r) {
  return answer(
      ::preadv2(r.fd, vectors(r), static_cast<int>(vector_count(r)), offset_of(r), flags_of(r)));
}

void fill_writev(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_writev(&sqe, r.fd, vectors(r), vector_count(r), r.offset);
  set_read_write_flags(r, sqe);
}
// Bounds and alignment are the kernel's to check: kernel-notes/registered_vectors.md.
void fill_writev_fixed(const op_request& r, io_uring_sqe& sqe) {
  fill_writev(r, sqe);
  sqe.opcode = uapi::op_writev_fixed;
  sqe.buf_index = r.buffer_index;
}
std::int64_t perform_writev(const op_request& r) {
  return answer(
      ::pwritev2(r.fd, vectors(r), static_cast<int>(vector_count(r)), offset_of(r), flags_of(r)));
}

void fill_splice(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_splice(&sqe, r.fd2, static_cast<std::int64_t>(r.offset2), r.fd, offset_of(r),
                       clipped(r.length), r.flags);
}
std::int64_t perform_splice(const op_request& r) {
  loff_t from = 0;
  loff_t to = 0;
  return answer(::splice(r.fd2, place_of(r.offset2, from), r.fd, place_of(r.offset, to),
                         clipped(r.length), r.flags));
}

// Waits for the disk, and for the socket unless that is non-blocking
// (kernel-notes/sendfile_waits_by_socket_mode.md).
std::int64_t perform_sendfile(const op_request& r) {
  auto from = static_cast<off_t>(r.offset2);
  return answer(::sendfile(r.fd, r.fd2, &from, clipped(r.length)));
}

// Waits for the disk. At most `length`, so that a cancel, which cannot interrupt it, is heard soon.
std::int64_t perform_copy_file_range(const op_request& r) {
  loff_t from = 0;
  loff_t to = 0;
  return answer(::copy_file_range(r.fd2, place_of(r.offset2, from), r.fd, place_of(r.offset, to),
                                  clipped(r.length), 0));
}

void fill_openat2(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_openat2(&sqe, r.fd, r.path, static_cast<open_how*>(r.data));
}
std::int64_t perform_openat2(const op_request& r) {
  return answer(::syscall(SYS_openat2, r.fd, r.path, r.data, sizeof(open_how)));
}

void fill_close(const op_request& r, io_uring_sqe& sqe) { io_uring_prep_close(&sqe, r.fd); }
std::int64_t perform_close(const op_request& r) { return answer(::close(r.fd)); }

void fill_fsync(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_fsync(&sqe, r.fd, r.flags);
}
std::int64_t perform_fsync(const op_request& r) {
  return answer((r.flags & fsync_data_only) != 0 ? ::fdatasync(r.fd) : ::fsync(r.fd));
}

void fill_fallocate(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_fallocate(&sqe, r.fd, flags_of(r), offset_of(r), static_cast<off_t>(r.length));
}
std::int64_t perform_fallocate(const op_request& r) {
  return answer(::fallocate(r.fd, flags_of(r), offset_of(r), static_cast<off_t>(r.length)));
}

void fill_ftruncate(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_rw(uapi::op_ftruncate, &sqe, r.fd, nullptr, 0, r.length);
}
std::int64_t perform_ftruncate(const op_request& r) {
  return answer(::ftruncate(r.fd, static_cast<off_t>(r.length)));
}

void fill_statx(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_statx(&sqe, r.fd, r.path, flags_of(r), static_cast<unsigned>(r.length),
                      static_cast<struct statx*>(r.data));
}
std::int64_t perform_statx(const op_request& r) {
  return answer(::statx(r.fd, r.path, flags_of(r), static_cast<unsigned>(r.length),
                        static_cast<struct statx*>(r.data)));
}

void fill_renameat2(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_renameat(&sqe, r.fd, r.path, r.fd2, r.path2, r.flags);
}
std::int64_t perform_renameat2(const op_request& r) {
  return answer(::renameat2(r.fd, r.path, r.fd2, r.path2, r.flags));
}

void fill_linkat(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_linkat(&sqe, r.fd, r.path, r.fd2, r.path2, flags_of(r));
}
std::int64_t perform_linkat(const op_request& r) {
  return answer(::linkat(r.fd, r.path, r.fd2, r.path2, flags_of(r)));
}

void fill_unlinkat(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_unlinkat(&sqe, r.fd, r.path, flags_of(r));
}
std::int64_t perform_unlinkat(const op_request& r) {
  return answer(::unlinkat(r.fd, r.path, flags_of(r)));
}

void fill_mkdirat(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_mkdirat(&sqe, r.fd, r.path, static_cast<mode_t>(r.length));
}
std::int64_t perform_mkdirat(const op_request& r) {
  return answer(::mkdirat(r.fd, r.path, static_cast<mode_t>(r.length)));
}

namespace {

std::int64_t sync_each(std::span<const int> files) {
  std::int64_t outcome = 0;
  for (const int fd : files) {
    if (::fdatasync(fd) != 0 && outcome == 0) outcome = -errno;
  }
  return outcome;
}

}  // namespace

// An error of write-back is told to the descriptor of syncfs once, and not at all where another has
// heard of it before that descriptor was opened: so each file is asked as well. By then its pages
// are written, and asking waits for nothing (kernel-notes/syncfs_error_per_descriptor.md). Whether
// syncfs is enough is asked here once more: whoever grouped the files knows their filesystem by its
// device number, which may have been another's that is unmounted by now.
std::int64_t perform_syncfs(const op_request& r) {
  const auto* files = static_cast<const int*>(r.data);
  if (r.length > 0 && kernel::filesystem_of(r.fd).syncfs_distrust() != nullptr) {
    return sync_each(std::span(files, r.length));
  }
  if (::syncfs(r.fd) != 0) return -errno;
  for (std::uint64_t i = 0; i < r.length; ++i) {
    if (::sync_file_range(files[i], 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) != 0) return -errno;
  }
  return 0;
}

}  // namespace sluice::ops
