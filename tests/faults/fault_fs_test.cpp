// The filesystem of the fault tests does what it is ordered to, seen with plain system calls.
#include <sys/uio.h>

#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using support::request_kind;

struct opened {
  explicit opened(const std::string& path, int flags = 0)
      : fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600)) {
    REQUIRE(fd >= 0);
  }
  opened(const opened&) = delete;
  opened& operator=(const opened&) = delete;
  ~opened() { ::close(fd); }
  [[nodiscard]] long write(std::size_t bytes, off_t offset) const {
    alignas(4096) static const std::array<char, 16'384> data{1, 2, 3};
    const long put = ::pwrite(fd, data.data(), bytes, offset);
    return put < 0 ? -errno : put;
  }
  [[nodiscard]] long read(std::size_t bytes, off_t offset) const {
    alignas(4096) static std::array<char, 16'384> data;
    const long got = ::pread(fd, data.data(), bytes, offset);
    return got < 0 ? -errno : got;
  }
  [[nodiscard]] long sync() const { return ::fsync(fd) < 0 ? -errno : 0; }
  const int fd;
};

}  // namespace

TEST_CASE("what is written to it is behind it, and what was removed is gone") {
  faults::on_fault_fs({}, [](support::fault_fs& disk) {
    const std::string at = disk.mount_point() + "/file";
    {
      const opened f(at);
      CHECK(f.write(5000, 3) == 5000);
      CHECK(f.sync() == 0);
      CHECK(std::filesystem::file_size(disk.backing() / "file") == 5003);
      CHECK(::ftruncate(f.fd, 10) == 0);
    }
    CHECK(conformance::same_bytes(conformance::content_of(at),
                                  conformance::content_of(disk.backing() / "file")));
    std::filesystem::rename(at, disk.mount_point() + "/other");
    CHECK(std::filesystem::exists(disk.backing() / "other"));
    CHECK(std::filesystem::remove(disk.mount_point() + "/other"));
    CHECK(std::filesystem::is_empty(disk.backing()));
  });
}

TEST_CASE("the ordered requests fail with the ordered error, and no others") {
  faults::on_fault_fs({}, [](support::fault_fs& disk) {
    const opened f(disk.mount_point() + "/file");
    disk.orders().fail(request_kind::write, 2, 3, ENOSPC);
    disk.orders().fail(request_kind::sync, 1, EIO);
    CHECK(f.write(100, 0) == 100);
    CHECK(f.write(100, 100) == -ENOSPC);
    CHECK(f.write(100, 100) == -ENOSPC);
    CHECK(f.write(100, 100) == 100);
    CHECK(f.sync() == -EIO);
    CHECK(f.sync() == 0);
    CHECK(disk.orders().of(request_kind::write).seen.load() == 4);
    CHECK(disk.orders().of(request_kind::sync).seen.load() == 2);
    disk.orders().reset();
    CHECK(f.write(100, 200) == 100);
    CHECK(disk.orders().of(request_kind::write).seen.load() == 1);
  });
}

TEST_CASE("writes are cut short as ordered, and a misaligned direct one is refused") {
  faults::on_fault_fs({}, [](support::fault_fs& disk) {
    const opened f(disk.mount_point() + "/file");
    disk.orders().short_every = 2;
    disk.orders().short_bytes = 7;
    CHECK(f.write(100, 0) == 100);
    CHECK(f.write(100, 0) == 7);
    CHECK(f.write(5, 0) == 5);
    CHECK(f.write(6, 0) == 6);
    CHECK(disk.orders().shortened.load() == 1);
    disk.orders().reset();
    disk.orders().direct_unit = 4096;
    const opened direct(disk.mount_point() + "/file", O_DIRECT);
    CHECK(direct.write(8192, 4096) == 8192);
    CHECK(direct.write(100, 4096) == -EINVAL);
    CHECK(direct.write(4096, 100) == -EINVAL);
    CHECK(disk.orders().direct_writes.load() == 3);
    CHECK(disk.orders().misaligned.load() == 2);
  });
}

TEST_CASE("direct reads fail and are cut short as ordered") {
  faults::on_fault_fs({.direct_io = true, .wait_for_direct = true}, [](support::fault_fs& disk) {
    const opened f(disk.mount_point() + "/file", O_DIRECT);
    CHECK(f.write(16'384, 0) == 16'384);
    disk.orders().fail(request_kind::read, 1, EIO);
    disk.orders().short_reads_every = 3;
    disk.orders().short_read_bytes = 4097;
    CHECK(f.read(8192, 0) == -EIO);
    CHECK(f.read(8192, 0) == 8192);
    CHECK(f.read(8192, 4096) == 4097);
    CHECK(f.read(8192, 12'288) == 4096);
    CHECK(disk.orders().shortened_reads.load() == 1);
    CHECK(disk.orders().of(request_kind::read).seen.load() == 4);
  });
}

TEST_CASE("with writeback a write that failed is told by the next sync, and only by that one") {
  faults::on_fault_fs({.writeback = true}, [](support::fault_fs& disk) {
    const opened f(disk.mount_point() + "/file");
    disk.orders().fail(request_kind::write, 1, EIO);
    CHECK(f.write(4096, 0) == 4096);
    CHECK(disk.orders().of(request_kind::write).seen.load() == 0);
    CHECK(f.sync() == -EIO);
    CHECK(disk.orders().of(request_kind::write).seen.load() == 1);
    CHECK(f.sync() == 0);
  });
}

TEST_CASE("it stops before the ordered request and goes on when told") {
  faults::on_fault_fs({}, [](support::fault_fs& disk) {
    disk.orders().of(request_kind::write).stop_at = 1;
    std::atomic<long> written{0};
    std::thread writer([&] { written = opened(disk.mount_point() + "/file").write(100, 0); });
    CHECK(disk.has_stopped());
    CHECK(written == 0);
    disk.resume();
    writer.join();
    CHECK(written == 100);
    CHECK_FALSE(disk.has_stopped(std::chrono::milliseconds(0)));
    disk.vanish();
    CHECK(::access((disk.mount_point() + "/file").c_str(), F_OK) == -1);
    CHECK(errno == ENOTCONN);
  });
}
