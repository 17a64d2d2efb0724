// A payload spliced from a socket cannot go on into a file that is open with O_DIRECT: EINVAL, as
// its length and place are not the disk's. The same pipe goes into the file without O_DIRECT.
#include "probe.hpp"

namespace {

constexpr std::size_t bytes = 1000;  // no multiple of any logical block size

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const int buffered_flags = static_cast<int>(probe::must(::fcntl(file.get(), F_GETFL), "F_GETFL"));
  probe::make_direct(file.get());
  struct statx info {};
  probe::must(::statx(file.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &info), "statx");
  if ((info.stx_mask & STATX_DIOALIGN) == 0 || info.stx_dio_offset_align < 2) {
    probe::skip("this filesystem takes direct writes of any alignment or none");
  }

  const auto [near, far] = probe::tcp_pair();
  const auto [read_end, write_end] = probe::pipe_pair();
  probe::send_all(far.get(), std::string(bytes, 'x'));
  probe::expect_equal(probe::result_of(::splice(near.get(), nullptr, write_end.get(), nullptr,
                                                bytes, SPLICE_F_MOVE)),
                      bytes, "splice from the socket to the pipe");

  loff_t offset = 0;
  const auto splice_to_file = [&] {
    return probe::result_of(
        ::splice(read_end.get(), nullptr, file.get(), &offset, bytes, SPLICE_F_MOVE));
  };
  probe::expect_equal(splice_to_file(), -EINVAL, "splice from the pipe to an O_DIRECT file");
  probe::must(::fcntl(file.get(), F_SETFL, buffered_flags), "F_SETFL");
  probe::expect_equal(splice_to_file(), bytes, "splice from the same pipe to a buffered file");
}

}  // namespace

int main() { return probe::run(show); }
