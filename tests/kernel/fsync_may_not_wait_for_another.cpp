// On btrfs an fsync of a directory, or of a file, says yes at once while another one, through
// another descriptor, has still to write what both are to make durable. On ext4 with its journal it
// waits.
#include <atomic>
#include <thread>

#include "probe.hpp"
#include "small_filesystem.hpp"
#include "support/fault_fs.hpp"

namespace {

using namespace std::chrono_literals;

bool command(const std::string& line) {
  return std::system(("PATH=$PATH:/usr/sbin:/sbin; { " + line + "; } >/dev/null 2>&1").c_str()) ==
         0;
}

probe::descriptor opened(const std::string& path, int flags) {
  return probe::descriptor(
      static_cast<int>(probe::must(::open(path.c_str(), flags | O_CLOEXEC, 0600), "open")));
}

// Whether the second of two fsyncs says yes while the disk answers no flush.
bool second_does_not_wait(const std::string& root, bool of_file, support::fault_fs& disk) {
  const std::string subject = of_file ? root + "/file" : root;
  const int flags = of_file ? O_RDWR | O_CREAT : O_RDONLY | O_DIRECTORY;
  const probe::descriptor first = opened(subject, flags);
  const probe::descriptor second = opened(subject, flags);
  // Nothing of before is left to write: what follows is the first to be logged.
  probe::must(::syncfs(first.get()), "syncfs");
  if (of_file) {
    probe::expect_equal(probe::result_of(::write(second.get(), "bytes", 5)), 5, "write");
  } else {
    (void)opened(root + "/name", O_RDWR | O_CREAT);
  }
  disk.orders().reset();
  disk.orders().of(support::request_kind::sync).stop_at = 1;
  std::thread begun([&first] { (void)::fsync(first.get()); });
  const bool hangs = disk.has_stopped();
  std::atomic<bool> said_yes = false;
  std::thread beside([&] { said_yes = ::fsync(second.get()) == 0; });
  std::this_thread::sleep_for(500ms);
  const bool early = said_yes;
  disk.resume();
  begun.join();
  beside.join();
  probe::expect(hangs, "the first fsync flushes the disk");
  return early;
}

// `mkfs` makes it in a file of 256 MiB, on a filesystem that stops on order.
void show_on(const std::string& mkfs, const std::string& name, bool of_file, bool wanted) {
  const probe::temp_dir dir;
  probe::in_child([&] {
    probe::private_mounts();
    if (!support::fault_fs::is_possible()) probe::skip("no /dev/fuse");
    support::fault_fs disk(dir.path());
    const std::string image = disk.mount_point() + "/image";
    const std::string root = (dir.path() / "root").string();
    probe::must(::mkdir(root.c_str(), 0700), "mkdir");
    if (!command("truncate -s 256M '" + image + "' && " + mkfs + " '" + image +
                 "' && mount -o loop '" + image + "' '" + root + "'")) {
      probe::skip(name + " cannot be made and mounted here");
    }
    const bool early = second_does_not_wait(root, of_file, disk);
    probe::must(::umount2(root.c_str(), 0), "umount");
    probe::expect(early == wanted, name + (wanted ? " says yes at once" : " waits") +
                                       (of_file ? ", of a file" : ", of a directory"));
  });
}

void show() {
  if (::geteuid() != 0) probe::skip("mounting needs the superuser");
  for (const bool of_file : {false, true}) {
    show_on("mkfs.ext4 -q -m 0", "ext4", of_file, false);
    show_on("mkfs.btrfs -q -K", "btrfs", of_file, true);
  }
}

}  // namespace

int main() { return probe::run(show); }
