// The sync of a file makes its bytes durable and not the name that it is given afterwards: that
// takes a sync of the directory.
#include "disk_image.hpp"

namespace {

void show() {
  probe::in_memory_folder(64U << 20U, [](const std::filesystem::path& folder) {
    const probe::disk_image disk(folder);
    const std::string root = disk.root().string();
    const probe::descriptor file(static_cast<int>(
        probe::must(::open(root.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), "open")));
    const probe::descriptor directory(static_cast<int>(
        probe::must(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open")));
    probe::must(::fsync(directory.get()), "fsync of the empty directory");
    const std::string bytes(10'000, 'x');
    probe::expect_equal(::write(file.get(), bytes.data(), bytes.size()), 10'000, "write");
    probe::must(::fdatasync(file.get()), "fdatasync");
    const std::string by_descriptor = "/proc/self/fd/" + std::to_string(file.get());
    probe::must(
        ::linkat(AT_FDCWD, by_descriptor.c_str(), directory.get(), "name", AT_SYMLINK_FOLLOW),
        "linkat");
    probe::expect(!disk.after_power_cut("name"), "the name is not there yet");
    probe::must(::fsync(directory.get()), "fsync of the directory");
    probe::expect(disk.after_power_cut("name") == bytes, "the name is there, with every byte");

    probe::must(::renameat(directory.get(), "name", directory.get(), "other"), "renameat");
    probe::expect(disk.after_power_cut("name") == bytes, "the old name is still there");
    probe::expect(!disk.after_power_cut("other"), "the new one is not yet");
    probe::must(::fsync(directory.get()), "fsync of the directory");
    probe::expect(!disk.after_power_cut("name"), "the old name is gone");
    probe::expect(disk.after_power_cut("other") == bytes, "the new one is there");
  });
}

}  // namespace

int main() { return probe::run(show); }
