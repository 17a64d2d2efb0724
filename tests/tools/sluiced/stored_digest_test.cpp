#include "stored_digest.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace {

using namespace sluiced;

const std::string of_hello = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const std::string of_hello_512 =
    "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7"
    "AQw==:";
constexpr const char* attribute = "user.sluice.repr-digest";

// A file without a name on the filesystem of the build.
class some_file {
 public:
  some_file() : fd_(::open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) { write("hello"); }
  some_file(const some_file&) = delete;
  some_file& operator=(const some_file&) = delete;
  ~some_file() { ::close(fd_); }

  [[nodiscard]] int fd() const { return fd_; }
  // Where this machine's filesystem has none there is nothing to be seen.
  [[nodiscard]] bool has_attributes() const {
    if (fd_ >= 0 && ::fsetxattr(fd_, "user.sluice.test", "1", 1, 0) == 0) return true;
    MESSAGE("no extended attributes here");
    return false;
  }
  void write(std::string_view text) const {
    CHECK(::pwrite(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  [[nodiscard]] sluice::file_info info() const {
    struct stat s{};
    CHECK(::fstat(fd_, &s) == 0);
    return {static_cast<std::uint64_t>(s.st_size), s.st_ino,
            s.st_mtim.tv_sec * 1'000'000'000 + s.st_mtim.tv_nsec};
  }
  [[nodiscard]] std::string told() const { return format_digests(stored_digests(fd_, info())); }
  void set_attribute(std::string_view value) const {
    CHECK(::fsetxattr(fd_, attribute, value.data(), value.size(), 0) == 0);
  }

 private:
  int fd_;
};

TEST_CASE("digests that were stored are found again") {
  const some_file file;
  if (!file.has_attributes()) return;
  CHECK(file.told() == "");
  const std::string both = of_hello + ", " + of_hello_512;
  store_digests(file.fd(), file.info(), *parse_digests(both));
  CHECK(file.told() == both);
  store_digests(file.fd(), file.info(), *parse_digests(of_hello));
  CHECK(file.told() == of_hello);
}

TEST_CASE("no digest, no attribute") {
  const some_file file;
  if (!file.has_attributes()) return;
  store_digests(file.fd(), file.info(), {});
  CHECK(::fgetxattr(file.fd(), attribute, nullptr, 0) == -1);
}

TEST_CASE("a file of another size or time is not what the digests were of") {
  const some_file file;
  if (!file.has_attributes()) return;
  const sluice::file_info then = file.info();
  store_digests(file.fd(), then, *parse_digests(of_hello));
  sluice::file_info now = then;
  now.bytes += 1;
  CHECK(stored_digests(file.fd(), now).empty());
  now = then;
  now.modified_ns += 1;
  CHECK(stored_digests(file.fd(), now).empty());
  now = then;
  now.inode += 1;  // a copy that keeps time and attributes has the content too
  CHECK(stored_digests(file.fd(), now).size() == 1);
}

TEST_CASE("a change of the file makes its digests void") {
  const some_file file;
  if (!file.has_attributes()) return;
  const timespec early[2] = {{0, UTIME_OMIT}, {1'000'000'000, 1}};
  CHECK(::futimens(file.fd(), early) == 0);
  store_digests(file.fd(), file.info(), *parse_digests(of_hello));
  CHECK(file.told() == of_hello);
  file.write("hullo");
  CHECK(file.told() == "");
}

TEST_CASE("an attribute that somebody else wrote is believed only when it is sound") {
  const some_file file;
  if (!file.has_attributes()) return;
  store_digests(file.fd(), file.info(), *parse_digests(of_hello));
  std::string sound(512, '\0');
  sound.resize(
      static_cast<std::size_t>(::fgetxattr(file.fd(), attribute, sound.data(), sound.size())));
  file.set_attribute(sound);
  CHECK(file.told() == of_hello);
  for (const std::string& value :
       {std::string(), std::string("of"), of_hello, sound + ",", sound.substr(0, sound.size() - 1),
        sound.substr(sound.find(' ')), sound + ", of=\"0-0\"", sound + ", of=1",
        sound + std::string(600, ' ')}) {
    CAPTURE(value);
    file.set_attribute(value);
    CHECK(file.told() == "");
  }
}

TEST_CASE("where nothing can be stored nothing is told, and nobody minds") {
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  store_digests(fd, {}, *parse_digests(of_hello));
  CHECK(stored_digests(fd, {}).empty());
  CHECK(stored_digests(-1, {}).empty());
  ::close(fd);
}

}  // namespace
