#include "storage/beneath.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conformance/suite.hpp"

namespace {

using namespace conformance;

sluice::task<int> try_open(sluice::engine& e, int directory_fd, std::string path, int flags) {
  const std::uint32_t mode = (flags & O_CREAT) != 0 ? 0600 : 0;
  sluice::result<sluice::kernel::unique_fd> fd =
      co_await sluice::open_beneath(e.core(), directory_fd, std::move(path), flags, mode);
  co_return fd ? 0 : fd.error().code;
}

// A tree with one of everything that must not be followed.
void make_tree(world& w) {
  std::filesystem::create_directories(w.at("in/sub"));
  make_file(w.at("in/file"), pattern(1, 0, 5));
  make_file(w.at("in/sub/file"), pattern(2, 0, 5));
  make_file(w.at("secret"), pattern(3, 0, 5));
  std::filesystem::create_symlink("file", w.at("in/link"));
  std::filesystem::create_symlink("sub", w.at("in/link-to-sub"));
  std::filesystem::create_symlink("../secret", w.at("in/out"));
  std::filesystem::create_symlink("/etc", w.at("in/etc"));
  std::filesystem::create_symlink("nowhere", w.at("in/dangling"));
  std::filesystem::create_symlink("loop", w.at("in/loop"));
  REQUIRE(::mkfifo(w.at("in/fifo").c_str(), 0600) == 0);
}

struct attempt {
  std::string path;
  int flags;
  int code;
};

}  // namespace

TEST_CASE("what openat2 refuses beneath a root, the walk refuses, with the same error") {
  const int file = O_RDONLY | O_NONBLOCK;
  const int folder = O_RDONLY | O_DIRECTORY;
  const int fresh = O_RDWR | O_CREAT | O_EXCL;
  const std::vector<attempt> attempts{
      {"file", file, 0},
      {"sub/file", file, 0},
      {"./file", file, 0},
      {"sub//file", file, 0},
      {"sub/./file", file, 0},
      {"sub", folder, 0},
      {"sub/", folder, 0},
      {".", folder, 0},
      {"fifo", file, 0},
      {"", file, ENOENT},
      {"missing", file, ENOENT},
      {"missing/file", file, ENOENT},
      {"file/", file, ENOTDIR},
      {"file/x", file, ENOTDIR},
      {"file", folder, ENOTDIR},
      {"fifo/x", file, ENOTDIR},
      {"..", folder, EXDEV},
      {"../secret", file, EXDEV},
      {"sub/../file", file, EXDEV},
      {"sub/..", folder, EXDEV},
      {"sub/../../secret", file, EXDEV},
      {"missing/../file", file, EXDEV},
      {"/etc/passwd", file, EXDEV},
      {"/", folder, EXDEV},
      {"link", file, ELOOP},
      {"link-to-sub", folder, ELOOP},
      {"link-to-sub/file", file, ELOOP},
      {"out", file, ELOOP},
      {"etc/passwd", file, ELOOP},
      {"dangling", file, ELOOP},
      {"loop", file, ELOOP},
      {std::string("file\0x", 6), file, EINVAL},
      {std::string("\0", 1), file, EINVAL},
      {std::string(256, 'n'), file, ENAMETOOLONG},
      {"file", fresh, EEXIST},
      {"dangling", fresh, EEXIST},
      {"sub/new", fresh, 0},
  };
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    const int root = ::open(w.at("in").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (const attempt& a : attempts) {
      CAPTURE(a.path);
      CAPTURE(a.flags);
      CHECK(w.run(try_open(w.engine(), root, a.path, a.flags)) == a.code);
    }
    CHECK(!std::filesystem::exists(w.at("in/nowhere")));
    ::close(root);
  }
}

TEST_CASE("descriptors opened beneath a root are closed on exec") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    const auto flags_of = [](sluice::engine& e, int root) -> sluice::task<int> {
      sluice::result<sluice::kernel::unique_fd> fd =
          co_await sluice::open_beneath(e.core(), root, "in/file", O_RDONLY);
      co_return fd ? ::fcntl(fd->get(), F_GETFD) : -1;
    };
    CHECK(w.run(flags_of(w.engine(), w.folder().fd())) == FD_CLOEXEC);
  }
}
