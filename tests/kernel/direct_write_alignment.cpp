// statx tells the alignment that direct I/O needs of memory and of offset and length; a write that
// misses one of them is EINVAL, on an O_TMPFILE descriptor switched to O_DIRECT by fcntl as well.
#include "probe.hpp"

namespace {

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  probe::make_direct(file.get());

  struct statx info {};
  probe::must(::statx(file.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &info), "statx");
  if ((info.stx_mask & STATX_DIOALIGN) == 0) probe::skip("STATX_DIOALIGN is not reported here");
  if (info.stx_dio_offset_align == 0) probe::skip("no direct I/O on this filesystem");
  const unsigned of_offset = info.stx_dio_offset_align;
  const unsigned of_memory = info.stx_dio_mem_align;
  std::printf("offset and length: %u, memory: %u\n", of_offset, of_memory);
  probe::expect(4096 % of_offset == 0, "a page is a multiple of the offset alignment");
  probe::expect(4096 % of_memory == 0, "a page is a multiple of the memory alignment");
  if (of_offset < 2 || of_memory < 2) probe::skip("direct I/O of any alignment is taken here");

  probe::ring ring;
  const probe::pages memory(4 * 4096);
  const auto write = [&](std::size_t start, unsigned bytes, std::uint64_t offset) {
    const int by_ring = ring.perform([&](io_uring_sqe* sqe) {
      ::io_uring_prep_write(sqe, file.get(), memory.data() + start, bytes, offset);
    });
    const long by_call = probe::result_of(
        ::pwrite(file.get(), memory.data() + start, bytes, static_cast<off_t>(offset)));
    probe::expect_equal(by_ring, by_call, "the ring answers as pwrite(2) does");
    return by_ring;
  };
  const int block = static_cast<int>(of_offset);
  probe::expect_equal(write(0, 8192, 4096), 8192, "an aligned direct write");
  probe::expect_equal(write(of_memory, of_offset, of_offset), block, "the least aligned one");
  probe::expect_equal(write(1, 4096, 0), -EINVAL, "memory off by one byte");
  probe::expect_equal(write(0, 4096, 1), -EINVAL, "offset off by one byte");
  probe::expect_equal(write(0, 4096, of_offset / 2), -EINVAL, "offset off by half a block");
  probe::expect_equal(write(0, of_offset + 1, 0), -EINVAL, "length off by one byte");
  probe::expect_equal(write(0, of_offset / 2, 0), -EINVAL, "length of half a block");
}

}  // namespace

int main() { return probe::run(show); }
