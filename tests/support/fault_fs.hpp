// A mounted filesystem that fails, cuts short or stops on order (fault_fs_main.cpp), for as long as
// the object lives. Needs the superuser and a mount namespace of the test's own.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/fault_orders.hpp"
#include "support/process_counts.hpp"

namespace support {

struct fault_fs_options {
  bool direct_io = false;        // no page cache at all
  bool wait_for_direct = false;  // direct writes may be short, and hold up who submits them
  bool writeback = false;  // pages are written at the kernel's leisure, errors told by the sync
  bool keep_no_attributes = false;  // the kernel asks for them at each stat(2)
};

class fault_fs {
 public:
  using options = fault_fs_options;

  [[nodiscard]] static bool is_possible() { return ::access("/dev/fuse", R_OK | W_OK) == 0; }

  // Makes two folders in `parent`: `disk`, the mount point, and `backing`.
  explicit fault_fs(const std::filesystem::path& parent, options wanted = {})
      : mount_point_(parent / "disk"), backing_(parent / "backing") {
    std::filesystem::create_directories(mount_point_);
    std::filesystem::create_directories(backing_);
    orders_ = share_orders();
    start(wanted);
    if (!comes_true([this] { return orders_->mounted.load(); })) {
      end();
      throw std::runtime_error("fault_fs does not mount at " + mount_point_.string());
    }
  }
  fault_fs(const fault_fs&) = delete;
  fault_fs& operator=(const fault_fs&) = delete;
  ~fault_fs() {
    end();
    ::munmap(orders_, sizeof(fault_orders));
  }

  [[nodiscard]] std::string mount_point() const { return mount_point_.string(); }
  [[nodiscard]] const std::filesystem::path& backing() const { return backing_; }
  [[nodiscard]] fault_orders& orders() { return *orders_; }

  // Waits until it has stopped itself, for `limit` at most.
  [[nodiscard]] bool has_stopped(std::chrono::milliseconds limit = std::chrono::seconds(10)) const {
    return comes_true(
        [this] {
          siginfo_t what{};
          return ::waitid(P_PID, static_cast<id_t>(child_), &what, WSTOPPED | WNOHANG | WNOWAIT) ==
                     0 &&
                 what.si_pid == child_;
        },
        limit);
  }
  // One that has vanished has no process: kill(-1) would be for every process of the machine.
  void resume() {
    if (child_ > 0) ::kill(child_, SIGCONT);
  }
  // The disk is gone for good: what waits for it fails, and so does everything after.
  void vanish() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  // The descriptor is kept open for the child that start() makes.
  fault_orders* share_orders() {
    orders_fd_ = ::memfd_create("fault_orders", 0);
    if (orders_fd_ < 0 || ::ftruncate(orders_fd_, sizeof(fault_orders)) != 0) {
      throw std::runtime_error("memory for the orders");
    }
    void* at =
        ::mmap(nullptr, sizeof(fault_orders), PROT_READ | PROT_WRITE, MAP_SHARED, orders_fd_, 0);
    if (at == MAP_FAILED) throw std::runtime_error("memory for the orders");
    return new (at) fault_orders;
  }

  void start(options wanted) {
    const std::string fd = std::to_string(orders_fd_);
    std::vector<const char*> arguments{FAULT_FS_PROGRAM, backing_.c_str(), mount_point_.c_str(),
                                       fd.c_str()};
    if (wanted.direct_io) arguments.push_back("direct_io");
    if (wanted.wait_for_direct) arguments.push_back("wait_for_direct");
    if (wanted.writeback) arguments.push_back("writeback");
    if (wanted.keep_no_attributes) arguments.push_back("keep_no_attributes");
    arguments.push_back(nullptr);
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // never outlives the test, however that ends
      ::close_range(3, static_cast<unsigned>(orders_fd_) - 1, CLOSE_RANGE_CLOEXEC);
      ::execv(FAULT_FS_PROGRAM, const_cast<char**>(arguments.data()));
      ::_exit(127);
    }
    ::close(orders_fd_);
    if (child_ < 0) throw std::runtime_error("fork");
  }

  void end() {
    ::umount2(mount_point_.c_str(), MNT_DETACH);
    vanish();
  }

  std::filesystem::path mount_point_;
  std::filesystem::path backing_;
  fault_orders* orders_ = nullptr;
  int orders_fd_ = -1;
  pid_t child_ = -1;
};

}  // namespace support
