// While a FUSE daemon is stopped, fstat and fstatfs of an open file wait for it; statx with
// AT_STATX_DONT_SYNC, F_GET_SEALS and F_SETFL do not.
#include <sys/statfs.h>

#include <atomic>
#include <functional>
#include <thread>

#include "probe.hpp"
#include "small_filesystem.hpp"
#include "support/fault_fs.hpp"

namespace {

using namespace std::chrono_literals;

constexpr unsigned mount_number = 0x1000 | 0x4000;  // STATX_MNT_ID, STATX_MNT_ID_UNIQUE
constexpr unsigned direct_alignment = 0x2000;       // STATX_DIOALIGN

// A call in a thread of its own, which ends when the daemon goes on.
class call {
 public:
  explicit call(const std::function<void()>& body)
      : thread_([this, body] {
          body();
          ended_ = true;
        }) {}
  call(const call&) = delete;
  call& operator=(const call&) = delete;
  ~call() { thread_.join(); }

  [[nodiscard]] bool ends() const {
    for (int i = 0; i < 50 && !ended_; ++i) std::this_thread::sleep_for(10ms);
    return ended_;
  }

 private:
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

void show_while_stopped(int fd, support::fault_fs& disk) {
  struct stat known{};
  struct statfs filesystem{};
  disk.orders().reset();
  disk.orders().of(support::request_kind::attributes).stop_at = 1;
  call plain([&] { (void)::fstat(fd, &known); });
  const bool stopped = disk.has_stopped();
  call of_filesystem([&] { (void)::fstatfs(fd, &filesystem); });
  struct statx cached{};
  long said = -EINPROGRESS;
  call remembered([&] {
    said = probe::result_of(::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                                    STATX_BASIC_STATS | mount_number | direct_alignment, &cached));
  });
  call seals([&] { (void)::fcntl(fd, F_GET_SEALS); });
  call flags([&] { (void)::fcntl(fd, F_SETFL, O_DIRECT); });
  const bool at_once = remembered.ends() && seals.ends() && flags.ends();
  const bool wait = !plain.ends() && !of_filesystem.ends();
  disk.resume();
  probe::expect(stopped && plain.ends() && of_filesystem.ends(), "the daemon was stopped by fstat");
  probe::expect(at_once, "statx, F_GET_SEALS and F_SETFL are answered meanwhile");
  probe::expect(wait, "fstat and fstatfs wait");
  probe::expect_equal(said, 0, "statx");
  probe::expect_equal(static_cast<long>(cached.stx_size), 5, "the size after a write of our own");
  probe::expect(cached.stx_ino == known.st_ino, "the number of the file");
  probe::expect((cached.stx_mask & mount_number) != 0, "the number of the mount is told");
  probe::expect((cached.stx_mask & direct_alignment) == 0, "no alignment is told");
}

void show() {
  if (::geteuid() != 0) probe::skip("mounting needs the superuser");
  const probe::temp_dir dir;
  probe::in_child([&] {
    probe::private_mounts();
    if (!support::fault_fs::is_possible()) probe::skip("no /dev/fuse");
    support::fault_fs disk(dir.path(), {.keep_no_attributes = true});
    const std::string path = disk.mount_point() + "/file";
    const probe::descriptor file(static_cast<int>(
        probe::must(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open")));
    probe::expect_equal(probe::result_of(::write(file.get(), "bytes", 5)), 5, "write");
    show_while_stopped(file.get(), disk);
  });
}

}  // namespace

int main() { return probe::run(show); }
