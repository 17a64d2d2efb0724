// When dirty pages cannot be written, one fsync of a descriptor says so and the next says 0, though
// the bytes are lost; a descriptor opened after it never hears of it.
#include <algorithm>
#include <array>
#include <cstdio>

#include "disk_image.hpp"

namespace {

constexpr std::size_t fits = 1U << 20U;
constexpr std::size_t written = 4U << 20U;

// A disk of 8 MiB that has room for less: the loop device of a sparse file in a full tmpfs. It goes
// with its last descriptor.
probe::descriptor failing_disk(const std::filesystem::path& folder, std::string& device) {
  const std::string image = (folder / "image").string();
  const probe::descriptor file(static_cast<int>(
      probe::must(::open(image.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open")));
  probe::must(::ftruncate(file.get(), 8 << 20), "ftruncate");
  std::array<char, 64> name{};
  std::FILE* told = ::popen(
      ("PATH=$PATH:/usr/sbin:/sbin losetup -f --show '" + image + "' 2>/dev/null").c_str(), "r");
  const bool made = told != nullptr && std::fgets(name.data(), name.size(), told) != nullptr;
  if (told != nullptr) ::pclose(told);
  if (!made) probe::skip("no loop device here");
  device = name.data();
  device.erase(device.find_last_not_of('\n') + 1);
  probe::descriptor disk(
      static_cast<int>(probe::result_of(::open(device.c_str(), O_RDWR | O_CLOEXEC))));
  probe::command("losetup -d '" + device + "'");  // while it is open: at its last close
  if (disk.get() < 0) probe::skip("the loop device cannot be opened");
  return disk;
}

void show() {
  probe::in_memory_folder(fits, [](const std::filesystem::path& folder) {
    std::string device;
    const probe::descriptor disk = failing_disk(folder, device);
    const std::string bytes(written, 'x');
    probe::expect_equal(probe::result_of(::pwrite(disk.get(), bytes.data(), written, 0)), written,
                        "the write, which goes to the page cache");
    const long first = probe::result_of(::fsync(disk.get()));
    probe::expect(first == -EIO || first == -ENOSPC, "the first sync fails");
    probe::expect_equal(probe::result_of(::fsync(disk.get())), 0, "the second sync");
    const probe::descriptor later(
        static_cast<int>(probe::must(::open(device.c_str(), O_RDWR | O_CLOEXEC), "open")));
    probe::expect_equal(probe::result_of(::fsync(later.get())), 0,
                        "a sync of a descriptor opened later");
    // From the disk, not from the page cache.
    probe::expect_equal(::posix_fadvise(disk.get(), 0, 0, POSIX_FADV_DONTNEED), 0, "fadvise");
    std::string back(written, '\0');
    probe::expect_equal(probe::result_of(::pread(disk.get(), back.data(), written, 0)), written,
                        "the read");
    probe::expect(std::ranges::count(back, 'x') < static_cast<long>(written), "bytes are lost");
  });
}

}  // namespace

int main() { return probe::run(show); }
