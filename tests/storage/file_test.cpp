#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "conformance/suite.hpp"

namespace {

using namespace conformance;

sluice::file adopted(world& w, const std::string& name, int flags) {
  const int fd = ::open(w.at(name).c_str(), flags | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

int code_of(const sluice::result<std::size_t>& r) { return r ? 0 : r.error().code; }

sluice::task<int> write_and_read(sluice::file& f) {
  const std::vector<std::byte> bytes = pattern(1, 0, 300'000);
  sluice::op_await writing = f.write(std::span(bytes).first(100'001), 0);
  const sluice::result<std::size_t> written = co_await writing;
  if (!written || *written != 100'001) co_return 1;
  std::byte* data = const_cast<std::byte*>(bytes.data());
  iovec parts[4] = {
      {data + 100'001, 1}, {data, 0}, {data + 100'002, 99'999}, {data + 200'001, 99'999}};
  sluice::op_await gathering = f.write(std::span<iovec>(parts), 100'001);
  const sluice::result<std::size_t> gathered = co_await gathering;
  if (!gathered || *gathered != 199'999) co_return 2;

  std::vector<std::byte> seen(300'000);
  sluice::op_await reading = f.read(seen, 0);
  const sluice::result<std::size_t> read = co_await reading;
  if (!read || *read != 300'000 || !support::is_pattern(seen, 1, 0)) co_return 3;
  sluice::op_await tail = f.read(seen, 299'990);
  const sluice::result<std::size_t> at_end = co_await tail;
  if (!at_end || *at_end != 10) co_return 4;
  sluice::op_await beyond = f.read(seen, 400'000);
  const sluice::result<std::size_t> none = co_await beyond;
  if (!none || *none != 0) co_return 5;
  co_return 0;
}

sluice::task<int> resize(sluice::file& f) {
  sluice::op_await growing = f.truncate(5000);
  int failure = code_of(co_await growing);
  if (failure != 0 || f.info()->bytes != 5000) co_return failure + 1;
  sluice::op_await shrinking = f.truncate(3);
  failure = code_of(co_await shrinking);
  if (failure != 0 || f.info()->bytes != 3) co_return failure + 2;
  const sluice::result<void> reserved = co_await f.reserve(70'000);
  co_return reserved&& f.info()->bytes == 70'000 ? 0 : 3;
}

struct codes {
  int write = 0;
  int writev = 0;
  int truncate = 0;
  int reserve = 0;
};

sluice::task<codes> change(sluice::file& f) {
  codes c;
  std::byte one{};
  sluice::op_await writing = f.write({&one, 1}, 0);
  c.write = code_of(co_await writing);
  iovec part{&one, 1};
  sluice::op_await gathering = f.write(std::span<iovec>(&part, 1), 0);
  c.writev = code_of(co_await gathering);
  sluice::op_await cutting = f.truncate(0);
  c.truncate = code_of(co_await cutting);
  const sluice::result<void> reserved = co_await f.reserve(100);
  c.reserve = reserved ? 0 : reserved.error().code;
  co_return c;
}

}  // namespace

TEST_CASE("what is written from one place or several is read back, and fewer bytes at the end") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file f = adopted(w, "file", O_RDWR | O_CREAT);
    CHECK(w.run(write_and_read(f)) == 0);
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
    CHECK(content_of(w.at("file")).size() == 300'000);
  }
}

TEST_CASE("truncate and reserve set the size, and info tells it") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file f = adopted(w, "file", O_RDWR | O_CREAT);
    CHECK(w.run(resize(f)) == 0);
    struct stat info{};
    REQUIRE(::stat(w.at("file").c_str(), &info) == 0);
    CHECK(info.st_size == 70'000);
    CHECK(f.info()->inode == info.st_ino);
    CHECK(f.info()->modified_ns ==
          std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec);
  }
}

TEST_CASE("a touched file is dated by the moment, and a closed one is EBADF") {
  world w(every_setting().front());
  sluice::file f = adopted(w, "file", O_RDWR | O_CREAT);
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  REQUIRE(::futimens(f.fd(), long_ago) == 0);
  timespec now{};
  REQUIRE(::clock_gettime(CLOCK_REALTIME, &now) == 0);
  const std::int64_t before = now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  CHECK(f.touch().has_value());
  REQUIRE(::clock_gettime(CLOCK_REALTIME, &now) == 0);
  const std::int64_t after = now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  CHECK(f.info()->modified_ns >= before);
  CHECK(f.info()->modified_ns <= after);
  struct stat info{};
  REQUIRE(::fstat(f.fd(), &info) == 0);
  CHECK(info.st_atim.tv_sec == 1000);
  const sluice::result<void> refused = sluice::file().touch();
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == EBADF);
}

TEST_CASE("a file open for reading refuses every change and stays as it was") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), pattern(2, 0, 1000));
    sluice::file f = adopted(w, "file", O_RDONLY);
    const codes c = w.run(change(f));
    CHECK(c.write == EBADF);
    CHECK(c.writev == EBADF);
    CHECK(c.truncate == EINVAL);
    CHECK(c.reserve == EBADF);
    CHECK(same_bytes(content_of(w.at("file")), pattern(2, 0, 1000)));
  }
}

TEST_CASE("what cannot be used as a file is not adopted, and stays the caller's") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    REQUIRE(::mkfifo(w.at("fifo").c_str(), 0600) == 0);
    make_file(w.at("file"), {});
    const int fifo = ::open(w.at("fifo").c_str(), O_RDWR | O_CLOEXEC);
    const int appending = ::open(w.at("file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    for (const int fd : {fifo, appending, w.folder().fd()}) {
      const sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
      REQUIRE(!made.has_value());
      CHECK(made.error().code == EINVAL);
      CHECK(::fcntl(fd, F_GETFD) >= 0);
    }
    CHECK(sluice::file::adopt(w.engine(), -1).error().code == EBADF);
    ::close(fifo);
    ::close(appending);
  }
}

TEST_CASE("an adopted descriptor waits for its disk, whatever it was opened with") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const sluice::file f = adopted(w, "file", O_RDWR | O_CREAT | O_NONBLOCK);
    CHECK((::fcntl(f.fd(), F_GETFL) & O_NONBLOCK) == 0);
  }
}

TEST_CASE("a closed file is closed when close returns, and a second close is nothing") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::size_t before = support::fd_count();
    sluice::file f = adopted(w, "file", O_RDWR | O_CREAT);
    const auto close = [](sluice::file& which) -> sluice::task<int> {
      const sluice::result<void> closed = co_await which.close();
      co_return closed ? 0 : closed.error().code;
    };
    CHECK(w.run(close(f)) == 0);
    CHECK(support::fd_count() == before);
    CHECK(!f);
    CHECK(w.run(close(f)) == 0);
  }
}

TEST_CASE("a file that a cancelled task closes is closed all the same") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::size_t before = support::fd_count();
    for (int turns = 0; turns < 6; ++turns) {
      CAPTURE(turns);
      const auto close = [](sluice::engine& e, sluice::file which, bool wait) -> sluice::task<int> {
        if (wait) {
          sluice::op_await sleeping = e.sleep_for(60s);
          (void)co_await sleeping;
        }
        const sluice::result<void> closed = co_await which.close();
        co_return closed ? 0 : closed.error().code;
      };
      std::optional<int> told;
      const sluice::task_handle handle =
          w.engine().start(close(w.engine(), adopted(w, "file", O_RDWR | O_CREAT), turns < 3),
                           [&told](int c) { told = c; });
      for (int i = 0; i < turns % 3; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told.has_value(); });
      w.settle();
      CHECK(support::fd_count() == before);
    }
  }
}
