// Fields of op_request that a kind reads, beside `fd`:
//   accept           flags (SOCK_*)
//   connect          data = sockaddr, length = its bytes
//   recv send        data, length, flags (MSG_*)
//   recvmsg sendmsg  data = msghdr, flags
//   send_zc          as send, buffer_index
//   read write       data, length, offset, flags (RWF_*)
//   readv writev     data = iovec array, length = count, offset, flags (RWF_*)
//   read_fixed write_fixed  as read and write, buffer_index
//   splice           to fd at offset, from fd2 at offset2 (or op_no_offset), length, flags
//                    (SPLICE_F_*)
//   sendfile         to fd, from fd2 at offset2, length
//   copy_file_range  to fd at offset, from fd2 at offset2, length
//   openat2          path, data = open_how
//   close            -
//   fsync            flags (fsync_data_only)
//   fallocate        flags = mode, offset, length
//   ftruncate        length
//   statx            path, flags (AT_*), length = mask, data = statx
//   renameat2        path, fd2, path2, flags
//   linkat           path, fd2, path2, flags
//   unlinkat         path, flags
//   mkdirat          path, length = mode
//   poll             flags = poll(2) events
//   shutdown         flags = how
//   syncfs           data = array of int, length = count: files whose own write-back errors count
//                    as the filesystem's
//   call             function, data
#include "ops/table.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "kernel/sigpipe.hpp"
#include "kernel/uapi.hpp"

namespace sluice {
namespace {

std::int64_t answer(long result) { return result < 0 ? -errno : result; }

std::uint32_t clipped(std::uint64_t length) {
  return static_cast<std::uint32_t>(std::min(length, op_bytes_max));
}
std::int64_t offset_of(const op_request& r) { return static_cast<std::int64_t>(r.offset); }
int flags_of(const op_request& r) { return static_cast<int>(r.flags); }
const iovec* vectors(const op_request& r) { return static_cast<const iovec*>(r.data); }
// More vectors than the kernel takes at once are a short result like any other.
unsigned vector_count(const op_request& r) {
  return static_cast<unsigned>(std::min<std::uint64_t>(r.length, IOV_MAX));
}

void fill_accept(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_accept(&sqe, r.fd, nullptr, nullptr, flags_of(r));
}
std::int64_t perform_accept(const op_request& r) {
  return answer(::accept4(r.fd, nullptr, nullptr, flags_of(r)));
}

void fill_connect(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_connect(&sqe, r.fd, static_cast<const sockaddr*>(r.data),
                        static_cast<socklen_t>(r.length));
}
// Called again once the socket is writable: then it says how the first call ended (connect(2)).
std::int64_t perform_connect(const op_request& r) {
  if (::connect(r.fd, static_cast<const sockaddr*>(r.data), static_cast<socklen_t>(r.length)) ==
      0) {
    return 0;
  }
  if (errno == EISCONN) return 0;
  return errno == EINPROGRESS || errno == EALREADY ? -EAGAIN : -errno;
}

void fill_recv(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_recv(&sqe, r.fd, r.data, clipped(r.length), flags_of(r));
}
std::int64_t perform_recv(const op_request& r) {
  // Without MSG_WAITALL: the rest is asked for when epoll says so.
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::recv(r.fd, r.data, clipped(r.length), flags));
}

void fill_send(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_send(&sqe, r.fd, r.data, clipped(r.length), flags_of(r));
}
std::int64_t perform_send(const op_request& r) {
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::send(r.fd, r.data, clipped(r.length), flags));
}

void fill_recvmsg(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_recvmsg(&sqe, r.fd, static_cast<msghdr*>(r.data), r.flags);
}
std::int64_t perform_recvmsg(const op_request& r) {
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::recvmsg(r.fd, static_cast<msghdr*>(r.data), flags));
}

void fill_sendmsg(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_sendmsg(&sqe, r.fd, static_cast<const msghdr*>(r.data), r.flags);
}
std::int64_t perform_sendmsg(const op_request& r) {
  const int flags = (flags_of(r) & ~MSG_WAITALL) | MSG_DONTWAIT;
  return answer(::sendmsg(r.fd, static_cast<const msghdr*>(r.data), flags));
}

// From registered memory only: what is not registered is sent plainly. Who has no ring, or an older
// one, sends plainly too, and answers once.
void fill_send_zc(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_send_zc_fixed(&sqe, r.fd, r.data, clipped(r.length), flags_of(r),
                              uapi::send_zc_report_usage, r.buffer_index);
}

void set_read_write_flags(const op_request& r, io_uring_sqe& sqe) { sqe.rw_flags = flags_of(r); }

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
std::int64_t perform_writev(const op_request& r) {
  return answer(
      ::pwritev2(r.fd, vectors(r), static_cast<int>(vector_count(r)), offset_of(r), flags_of(r)));
}

// splice(2), copy_file_range(2) and the ring say "no offset" with a null pointer, or -1.
loff_t* place_of(std::uint64_t offset, loff_t& place) {
  place = static_cast<loff_t>(offset);
  return offset == op_no_offset ? nullptr : &place;
}

void fill_splice(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_splice(&sqe, r.fd2, static_cast<std::int64_t>(r.offset2), r.fd, offset_of(r),
                       clipped(r.length), r.flags);
}
std::int64_t perform_splice(const op_request& r) {
  loff_t from = 0;
  loff_t to = 0;
  kernel::sigpipe_guard no_signal;
  const ssize_t moved = ::splice(r.fd2, place_of(r.offset2, from), r.fd, place_of(r.offset, to),
                                 clipped(r.length), r.flags);
  if (moved == static_cast<ssize_t>(clipped(r.length))) no_signal.raised_none();
  return answer(moved);
}

// Waits for the disk, and for the socket unless that is non-blocking
// (kernel-notes/sendfile_waits_by_socket_mode.md).
std::int64_t perform_sendfile(const op_request& r) {
  auto from = static_cast<off_t>(r.offset2);
  kernel::sigpipe_guard no_signal;
  const ssize_t moved = ::sendfile(r.fd, r.fd2, &from, clipped(r.length));
  if (moved == static_cast<ssize_t>(clipped(r.length))) no_signal.raised_none();
  return answer(moved);
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

void fill_poll(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_poll_add(&sqe, r.fd, r.flags);
}
std::int64_t perform_poll(const op_request& r) {
  if (r.fd < 0) return -EBADF;  // poll(2) skips it
  pollfd wanted{r.fd, static_cast<short>(r.flags), 0};
  const int ready = ::poll(&wanted, 1, 0);
  if (ready == 0) return -EAGAIN;
  if (ready < 0) return -errno;
  return (wanted.revents & POLLNVAL) != 0 ? -EBADF : wanted.revents;  // as the ring says it
}

void fill_shutdown(const op_request& r, io_uring_sqe& sqe) {
  io_uring_prep_shutdown(&sqe, r.fd, flags_of(r));
}
std::int64_t perform_shutdown(const op_request& r) { return answer(::shutdown(r.fd, flags_of(r))); }

// An error of write-back is told to the descriptor of syncfs once, and not at all where another has
// heard of it before that descriptor was opened: so each file is asked as well. By then its pages
// are written, and asking waits for nothing (kernel-notes/syncfs_error_per_descriptor.md).
std::int64_t perform_syncfs(const op_request& r) {
  if (::syncfs(r.fd) != 0) return -errno;
  const auto* files = static_cast<const int*>(r.data);
  for (std::uint64_t i = 0; i < r.length; ++i) {
    if (::sync_file_range(files[i], 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) != 0) return -errno;
  }
  return 0;
}

std::int64_t perform_call(const op_request& r) { return r.function(r.data); }

constexpr std::array<op_row, op_kind_count> rows{{
    {op_kind::accept, "accept", IORING_OP_ACCEPT, fill_accept, perform_accept, carrier::readable,
     short_rule::final, retry_rule::again},
    {op_kind::connect, "connect", IORING_OP_CONNECT, fill_connect, perform_connect,
     carrier::writable, short_rule::final, retry_rule::again},
    {op_kind::recv, "recv", IORING_OP_RECV, fill_recv, perform_recv, carrier::readable,
     short_rule::resume_if_all, retry_rule::again},
    {op_kind::send, "send", IORING_OP_SEND, fill_send, perform_send, carrier::writable,
     short_rule::resume, retry_rule::again},
    {op_kind::recvmsg, "recvmsg", IORING_OP_RECVMSG, fill_recvmsg, perform_recvmsg,
     carrier::readable, short_rule::resume_if_all, retry_rule::again},
    {op_kind::sendmsg, "sendmsg", IORING_OP_SENDMSG, fill_sendmsg, perform_sendmsg,
     carrier::writable, short_rule::resume, retry_rule::again},
    {op_kind::send_zc, "send_zc", IORING_OP_SEND_ZC, fill_send_zc, perform_send, carrier::writable,
     short_rule::final, retry_rule::again},
    {op_kind::read, "read", IORING_OP_READ, fill_read, perform_read, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::write, "write", IORING_OP_WRITE, fill_write, perform_write, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::readv, "readv", IORING_OP_READV, fill_readv, perform_readv, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::writev, "writev", IORING_OP_WRITEV, fill_writev, perform_writev, carrier::worker,
     short_rule::resume, retry_rule::again},
    {op_kind::read_fixed, "read_fixed", IORING_OP_READ_FIXED, fill_read_fixed, perform_read,
     carrier::worker, short_rule::resume, retry_rule::again},
    {op_kind::write_fixed, "write_fixed", IORING_OP_WRITE_FIXED, fill_write_fixed, perform_write,
     carrier::worker, short_rule::resume, retry_rule::again},
    {op_kind::splice, "splice", IORING_OP_SPLICE, fill_splice, perform_splice, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::sendfile, "sendfile", -1, nullptr, perform_sendfile, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::copy_file_range, "copy_file_range", -1, nullptr, perform_copy_file_range,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::openat2, "openat2", IORING_OP_OPENAT2, fill_openat2, perform_openat2, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::close, "close", IORING_OP_CLOSE, fill_close, perform_close, carrier::worker,
     short_rule::final, retry_rule::closed},
    {op_kind::fsync, "fsync", IORING_OP_FSYNC, fill_fsync, perform_fsync, carrier::worker,
     short_rule::final, retry_rule::final},
    {op_kind::fallocate, "fallocate", IORING_OP_FALLOCATE, fill_fallocate, perform_fallocate,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::ftruncate, "ftruncate", uapi::op_ftruncate, fill_ftruncate, perform_ftruncate,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::statx, "statx", IORING_OP_STATX, fill_statx, perform_statx, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::renameat2, "renameat2", IORING_OP_RENAMEAT, fill_renameat2, perform_renameat2,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::linkat, "linkat", IORING_OP_LINKAT, fill_linkat, perform_linkat, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::unlinkat, "unlinkat", IORING_OP_UNLINKAT, fill_unlinkat, perform_unlinkat,
     carrier::worker, short_rule::final, retry_rule::again},
    {op_kind::mkdirat, "mkdirat", IORING_OP_MKDIRAT, fill_mkdirat, perform_mkdirat, carrier::worker,
     short_rule::final, retry_rule::again},
    {op_kind::poll, "poll", IORING_OP_POLL_ADD, fill_poll, perform_poll, carrier::polled,
     short_rule::final, retry_rule::again},
    {op_kind::shutdown, "shutdown", IORING_OP_SHUTDOWN, fill_shutdown, perform_shutdown,
     carrier::inline_call, short_rule::final, retry_rule::again},
    {op_kind::syncfs, "syncfs", -1, nullptr, perform_syncfs, carrier::worker, short_rule::final,
     retry_rule::final},
    {op_kind::call, "call", -1, nullptr, perform_call, carrier::worker, short_rule::final,
     retry_rule::again},
    {op_kind::timeout, "timeout", -1, nullptr, nullptr, carrier::loop, short_rule::final,
     retry_rule::again},
    {op_kind::park, "park", -1, nullptr, nullptr, carrier::loop, short_rule::final,
     retry_rule::again},
}};

static_assert(fsync_data_only == IORING_FSYNC_DATASYNC);

constexpr bool rows_match_kinds() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i].kind) != i) return false;
    if ((rows[i].opcode >= 0) != (rows[i].fill_sqe != nullptr)) return false;
    if ((rows[i].by == carrier::loop) != (rows[i].perform == nullptr)) return false;
  }
  return true;
}
static_assert(rows_match_kinds(), "a row per kind, in the order of op_kind");

bool counts_vectors(op_kind kind) { return kind == op_kind::readv || kind == op_kind::writev; }
bool is_message(op_kind kind) { return kind == op_kind::recvmsg || kind == op_kind::sendmsg; }

std::uint64_t bytes_in(const iovec* first, std::uint64_t count) {
  std::uint64_t bytes = 0;
  for (std::uint64_t i = 0; i < count; ++i) bytes += first[i].iov_len;
  return bytes;
}

std::uint64_t bytes_wanted(const op_request& r) {
  if (counts_vectors(r.kind)) return bytes_in(vectors(r), r.length);
  if (is_message(r.kind)) {
    const auto* message = static_cast<const msghdr*>(r.data);
    return bytes_in(message->msg_iov, message->msg_iovlen);
  }
  return r.length;
}

// Worked example: vectors of 100 and 200 bytes, 150 moved: the first is dropped (100), 50 bytes are
// cut off the second, which is now {base + 50, 150} and the only one left.
std::uint64_t drop_bytes(iovec*& first, std::uint64_t count, std::uint64_t bytes) {
  while (count > 0 && bytes >= first->iov_len) {
    bytes -= first->iov_len;
    ++first;
    --count;
  }
  if (bytes > 0) {
    first->iov_base = static_cast<std::byte*>(first->iov_base) + bytes;
    first->iov_len -= bytes;
  }
  return count;
}

}  // namespace

const op_row& row_of(op_kind kind) { return rows[static_cast<std::size_t>(kind)]; }

carrier carrier_of(const op_request& request) {
  switch (request.route) {
    case op_route::worker: return carrier::worker;
    case op_route::loop_thread: return carrier::inline_call;
    default: return row_of(request.kind).by;
  }
}

bool is_short(const op_request& request, std::uint64_t count) {
  if (request.accept_short) return false;
  const short_rule rule = row_of(request.kind).when_short;
  if (rule == short_rule::final) return false;
  if (rule == short_rule::resume_if_all && (request.flags & MSG_WAITALL) == 0) return false;
  return count < bytes_wanted(request);
}

void advance(op_request& request, std::uint64_t count) {
  if (counts_vectors(request.kind)) {
    auto* first = static_cast<iovec*>(request.data);
    request.length = drop_bytes(first, request.length, count);
    request.data = first;
    request.offset += count;
  } else if (is_message(request.kind)) {
    auto* message = static_cast<msghdr*>(request.data);
    message->msg_iovlen = drop_bytes(message->msg_iov, message->msg_iovlen, count);
  } else {
    request.data = static_cast<std::byte*>(request.data) + count;
    request.length -= count;
    request.offset += count;
  }
}

}  // namespace sluice
