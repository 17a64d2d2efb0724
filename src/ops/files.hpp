// How the ring is told of operations on files and names, and how a thread performs them: what the
// rows of ops/table.cpp point to.
#pragma once

#include <cstdint>

#include "sluice/op.hpp"

struct io_uring_sqe;

namespace sluice::ops {

// Fills an entry whose bytes may be anything, all but its user_data and flags of the backend.
void fill_read(const op_request& r, io_uring_sqe& sqe);
void fill_read_fixed(const op_request& r, io_uring_sqe& sqe);
void fill_write(const op_request& r, io_uring_sqe& sqe);
void fill_write_fixed(const op_request& r, io_uring_sqe& sqe);
void fill_readv(const op_request& r, io_uring_sqe& sqe);
void fill_writev(const op_request& r, io_uring_sqe& sqe);
void fill_writev_fixed(const op_request& r, io_uring_sqe& sqe);
void fill_splice(const op_request& r, io_uring_sqe& sqe);
void fill_openat2(const op_request& r, io_uring_sqe& sqe);
void fill_close(const op_request& r, io_uring_sqe& sqe);
void fill_fsync(const op_request& r, io_uring_sqe& sqe);
void fill_fallocate(const op_request& r, io_uring_sqe& sqe);
void fill_ftruncate(const op_request& r, io_uring_sqe& sqe);
void fill_statx(const op_request& r, io_uring_sqe& sqe);
void fill_renameat2(const op_request& r, io_uring_sqe& sqe);
void fill_linkat(const op_request& r, io_uring_sqe& sqe);
void fill_unlinkat(const op_request& r, io_uring_sqe& sqe);
void fill_mkdirat(const op_request& r, io_uring_sqe& sqe);

// Any thread; may wait for the disk. The count or descriptor, or -errno.
[[nodiscard]] std::int64_t perform_read(const op_request& r);
[[nodiscard]] std::int64_t perform_write(const op_request& r);
[[nodiscard]] std::int64_t perform_readv(const op_request& r);
[[nodiscard]] std::int64_t perform_writev(const op_request& r);
[[nodiscard]] std::int64_t perform_splice(const op_request& r);
[[nodiscard]] std::int64_t perform_sendfile(const op_request& r);
[[nodiscard]] std::int64_t perform_copy_file_range(const op_request& r);
[[nodiscard]] std::int64_t perform_openat2(const op_request& r);
[[nodiscard]] std::int64_t perform_close(const op_request& r);
[[nodiscard]] std::int64_t perform_fsync(const op_request& r);
[[nodiscard]] std::int64_t perform_fallocate(const op_request& r);
[[nodiscard]] std::int64_t perform_ftruncate(const op_request& r);
[[nodiscard]] std::int64_t perform_statx(const op_request& r);
[[nodiscard]] std::int64_t perform_renameat2(const op_request& r);
[[nodiscard]] std::int64_t perform_linkat(const op_request& r);
[[nodiscard]] std::int64_t perform_unlinkat(const op_request& r);
[[nodiscard]] std::int64_t perform_mkdirat(const op_request& r);
[[nodiscard]] std::int64_t perform_syncfs(const op_request& r);

}  // namespace sluice::ops
