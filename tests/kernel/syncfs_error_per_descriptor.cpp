// Write-back fails on ext4 over a tmpfs that is full: syncfs tells each descriptor that was open
// before once, one opened later nothing; sync_file_range tells the file its own error, and nothing
// to a file that has none.
#include "small_filesystem.hpp"

namespace {

long sync_filesystem(int fd) { return probe::result_of(::syncfs(fd)); }

long own_error(int fd) {
  return probe::result_of(::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE));
}

probe::descriptor open_in(int root, const char* name, int flags) {
  return probe::descriptor(
      static_cast<int>(probe::must(::openat(root, name, flags | O_CLOEXEC, 0600), "open")));
}

void show_errors(int root, const std::string& below) {
  const probe::descriptor lost = open_in(root, "lost", O_RDWR | O_CREAT);
  const probe::descriptor sound = open_in(root, "sound", O_RDWR | O_CREAT);
  probe::must(::syncfs(root), "syncfs");
  const std::string fill = "dd if=/dev/zero of='" + below + "/filler' bs=4k 2>/dev/null; true";
  probe::must(std::system(fill.c_str()), "filling the tmpfs");

  const std::string text(1 << 20, 'x');
  probe::must(::write(lost.get(), text.data(), text.size()), "write into the page cache");
  const long told = sync_filesystem(sound.get());
  probe::expect(told < 0, "syncfs tells the error through a descriptor of another file");
  probe::expect_equal(sync_filesystem(sound.get()), 0, "syncfs again on the same descriptor");
  probe::expect(sync_filesystem(root) < 0, "syncfs on a descriptor open before, not asked yet");
  const probe::descriptor later = open_in(root, "sound", O_RDONLY);
  probe::expect_equal(sync_filesystem(later.get()), 0, "syncfs on a descriptor opened later");

  probe::expect_equal(own_error(sound.get()), 0, "sync_file_range of a file without an error");
  probe::expect(own_error(lost.get()) < 0, "sync_file_range of the file that lost its pages");
  probe::expect_equal(own_error(lost.get()), 0, "sync_file_range again on the same descriptor");
}

void show() { probe::on_ext4_over_little_tmpfs(16 << 20, show_errors); }

}  // namespace

int main() { return probe::run(show); }
