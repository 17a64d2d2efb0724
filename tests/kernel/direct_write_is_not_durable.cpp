// A direct write has left the page cache out and is still not durable: what says that its blocks
// hold data waits for a sync.
#include <algorithm>

#include "disk_image.hpp"

namespace {

constexpr std::size_t bytes = 65'536;

std::size_t count_of(const std::optional<std::string>& content, char wanted) {
  if (!content) probe::fail("the file is not there");
  return static_cast<std::size_t>(std::ranges::count(*content, wanted));
}

void show() {
  probe::in_memory_folder(64U << 20U, [](const std::filesystem::path& folder) {
    const probe::disk_image disk(folder);
    const std::string path = (disk.root() / "file").string();
    const probe::descriptor file(static_cast<int>(
        probe::result_of(::open(path.c_str(), O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600))));
    if (file.get() < 0) probe::skip("no O_DIRECT here");
    probe::must(::fallocate(file.get(), 0, 0, bytes), "fallocate");
    probe::must(::fsync(file.get()), "fsync");
    const probe::descriptor directory(static_cast<int>(probe::must(
        ::open(disk.root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open of the root")));
    probe::must(::fsync(directory.get()), "fsync of the directory");

    const probe::pages memory(bytes);
    std::fill_n(memory.data(), bytes, 'y');
    probe::expect_equal(probe::result_of(::pwrite(file.get(), memory.data(), bytes, 0)), bytes,
                        "the direct write");
    probe::expect_equal(static_cast<long>(count_of(disk.after_power_cut("file"), 'y')), 0,
                        "bytes there before the sync");
    probe::must(::fdatasync(file.get()), "fdatasync");
    probe::expect_equal(static_cast<long>(count_of(disk.after_power_cut("file"), 'y')), bytes,
                        "bytes there after the sync");
  });
}

}  // namespace

int main() { return probe::run(show); }
