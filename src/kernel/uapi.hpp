// Kernel constants newer than the headers of Debian 12 (Linux 6.1, liburing 2.3). Each is checked
// against the header where the header has it.
#pragma once

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>

#include <cstdint>

namespace sluice::uapi {

// include/uapi/linux/io_uring.h: opcodes after those of liburing 2.3.
inline constexpr std::uint8_t op_ftruncate = 55;     // Linux 6.9
inline constexpr std::uint8_t op_writev_fixed = 61;  // Linux 6.15

// include/uapi/linux/io_uring.h: a zero-copy send is asked to say in its notification whether the
// kernel copied after all, Linux 6.2; and where in the result it says so.
inline constexpr unsigned send_zc_report_usage = 1U << 3;
inline constexpr std::uint32_t notif_usage_zc_copied = 1U << 31;
#ifdef IORING_SEND_ZC_REPORT_USAGE
static_assert(send_zc_report_usage == IORING_SEND_ZC_REPORT_USAGE);
#endif
#ifdef IORING_NOTIF_USAGE_ZC_COPIED
static_assert(notif_usage_zc_copied == IORING_NOTIF_USAGE_ZC_COPIED);
#endif

// include/uapi/linux/io_uring.h: one answer of a receive may bring several provided buffers, Linux
// 6.10; and the bit of the ring's features that says so.
inline constexpr std::uint16_t recvsend_bundle = 1U << 4;
inline constexpr std::uint32_t feature_recvsend_bundle = 1U << 14;
#ifdef IORING_RECVSEND_BUNDLE
static_assert(recvsend_bundle == IORING_RECVSEND_BUNDLE);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
static_assert(feature_recvsend_bundle == IORING_FEAT_RECVSEND_BUNDLE);
#endif

// include/uapi/linux/fs.h: read or write through the page cache and leave nothing there,
// Linux 6.14.
inline constexpr int rwf_dontcache = 0x80;
#ifdef RWF_DONTCACHE
static_assert(rwf_dontcache == RWF_DONTCACHE);
#endif

// include/linux/errno.h: what an op that was interrupted in a worker answers; in no header for
// programs (kernel-notes/cancel_result.md).
inline constexpr int error_restartsys = 512;

// include/uapi/linux/stat.h: statx(2) STATX_DIOALIGN, Linux 6.1.
inline constexpr std::uint32_t statx_dioalign = 0x2000U;
#ifdef STATX_DIOALIGN
static_assert(statx_dioalign == STATX_DIOALIGN);
#endif

// include/uapi/linux/stat.h: which mount a file was opened by, Linux 5.8; by a number that is never
// used again, Linux 6.8.
inline constexpr std::uint32_t statx_mnt_id = 0x1000U;
inline constexpr std::uint32_t statx_mnt_id_unique = 0x4000U;
#ifdef STATX_MNT_ID_UNIQUE
static_assert(statx_mnt_id_unique == STATX_MNT_ID_UNIQUE);
#endif

// include/uapi/linux/mman.h: cachestat(2), Linux 6.5; the number is the same everywhere.
inline constexpr long sys_cachestat = 451;
struct cachestat_range {
  std::uint64_t off;
  std::uint64_t len;
};
struct cachestat {
  std::uint64_t nr_cache;
  std::uint64_t nr_dirty;
  std::uint64_t nr_writeback;
  std::uint64_t nr_evicted;
  std::uint64_t nr_recently_evicted;
};

// The tail of struct statx that older headers call __spare2 and __spare3: where the number of the
// mount and the two alignments lie.
inline constexpr std::size_t statx_mnt_id_offset = 0x90;
inline constexpr std::size_t statx_dio_mem_align_offset = 0x98;
inline constexpr std::size_t statx_dio_offset_align_offset = 0x9c;
static_assert(sizeof(struct statx) == 0x100);

}  // namespace sluice::uapi
