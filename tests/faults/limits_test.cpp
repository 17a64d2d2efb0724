// Limits of a process that are reached: the error says which, and what is left goes on working.
#include <fcntl.h>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "faults/child.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace conformance;

// A folder that an ordinary user may use, whatever lies above the build folder.
std::unique_ptr<support::temp_dir> open_folder() {
  std::unique_ptr<support::temp_dir> made =
      temp_dir_in(is_there("/dev/shm") ? "/dev/shm" : std::filesystem::current_path().string());
  REQUIRE(::chmod(made->path().c_str(), 0777) == 0);
  return made;
}

std::optional<uploaded> upload(sluice::engine& e, const std::string& folder, std::uint64_t length) {
  const std::vector<std::byte> sent = pattern(1, 0, length);
  stream_pair ends = stream_pair::tcp();
  upload_request request{folder, "body", {}};
  request.body.length = length;
  std::optional<uploaded> got;
  // No thread: none may be to be had. The receiver takes turns with the sender.
  const int theirs = ends.take_theirs();
  REQUIRE(::fcntl(theirs, F_SETFL, O_NONBLOCK) == 0);
  e.start(receive_upload(e, adopt(e, ends.take_ours()), request),
          [&got](uploaded u) { got = std::move(u); });
  std::size_t done = 0;
  const auto last = std::chrono::steady_clock::now() + 20s;
  while (!got && std::chrono::steady_clock::now() < last) {
    const ssize_t put = done < length ? ::send(theirs, sent.data() + done, length - done,
                                               MSG_NOSIGNAL | MSG_DONTWAIT)
                                      : 0;
    if (put > 0) done += static_cast<std::size_t>(put);
    e.run_once(1ms);
  }
  ::close(theirs);
  if (got && got->published) CHECK(same_bytes(content_of(folder + "/body"), sent));
  return got;
}

}  // namespace

TEST_CASE(
    "with 64 KiB of RLIMIT_MEMLOCK an ordinary user's engine starts, says what it lacks, "
    "and works") {
  const std::unique_ptr<support::temp_dir> folder = open_folder();
  for (const std::string backend : {"auto", "ring", "pool"}) {
    if (backend == "ring" && !support::has_backend("ring")) continue;
    CAPTURE(backend);
    faults::in_child([&] {
      faults::limit(RLIMIT_MEMLOCK, 64 * 1024);
      faults::become_ordinary_user();
      std::vector<std::string> said;
      sluice::result<sluice::engine> made = sluice::engine::create(
          support::small_knobs(
              backend, {{"sluice.memory.arena_bytes", "8M"}, {"sluice.receive.path", "copy"}}),
          [&said](sluice::log_level, std::string_view text) { said.emplace_back(text); });
      REQUIRE(made.has_value());
      const std::optional<uploaded> got = upload(*made, folder->path().string(), 3'000'001);
      REQUIRE(got.has_value());
      CHECK(got->outcome.has_value());
      CHECK(got->published.has_value());
      if (made->backend_name() != "ring") return;
      // Whatever did not fit has its reason, in the table or in the log.
      std::string reasons;
      for (const sluice::capability& c : made->capabilities()) reasons += c.reason + '\n';
      for (const std::string& text : said) reasons += text + '\n';
      CAPTURE(reasons);
      CHECK(reasons.find("RLIMIT_MEMLOCK") != std::string::npos);
      CHECK(*made->counters().get("sluice.memory.registered_bytes") < (8 << 20));
    });
  }
}

TEST_CASE("without descriptors an engine says EMFILE, starting and running, and recovers") {
  const std::unique_ptr<support::temp_dir> folder = open_folder();
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    faults::in_child([&] {
      const std::size_t before = support::fd_count();
      const int lowest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      ::close(lowest);
      faults::limit(RLIMIT_NOFILE, static_cast<rlim_t>(lowest) + 1);
      const sluice::result<sluice::engine> none =
          sluice::engine::create(support::small_knobs(backend));
      REQUIRE(!none.has_value());
      CHECK(none.error().code == EMFILE);
      CHECK(support::fd_count() == before);

      faults::limit(RLIMIT_NOFILE, static_cast<rlim_t>(lowest) + 64);
      setting on{backend, backend, folder->path().string(), false, ""};
      world w(on);
      // Takes every descriptor there is, then gives them back one by one.
      std::vector<int> taken;
      while (true) {
        const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0) break;
        taken.push_back(fd);
      }
      const auto create = [](sluice::engine& e, std::string where) -> sluice::task<int> {
        sluice::result<sluice::directory> in = co_await sluice::directory::open(e, where);
        if (!in) co_return in.error().code;
        const sluice::result<sluice::file> made = co_await in->create();
        co_return made ? 0 : made.error().code;
      };
      const std::string where = w.folder().path().string();
      CHECK(w.run(create(w.engine(), where)) == EMFILE);
      int told = EMFILE;
      for (int freed = 0; freed < 3; ++freed) {
        ::close(taken.back());
        taken.pop_back();
        told = w.run(create(w.engine(), where));
        CHECK((told == 0 || told == EMFILE));
        w.until([&w] { return w.engine().core().loop().ops_under_way() == 0; });
      }
      CHECK(told == 0);
      for (const int fd : taken) ::close(fd);
      const std::optional<uploaded> got = upload(w.engine(), where, 500'000);
      REQUIRE(got.has_value());
      CHECK(got->published.has_value());
    });
  }
}

TEST_CASE("where no thread can be made, file operations say no_thread and work again later") {
  const std::unique_ptr<support::temp_dir> folder = open_folder();
  faults::in_child([&] {
    faults::become_ordinary_user();
    setting on{"pool", "pool", folder->path().string(), false, ""};
    world w(on);
    faults::limit(RLIMIT_NPROC, 0);
    std::optional<uploaded> got = upload(w.engine(), w.folder().path().string(), 300'000);
    REQUIRE(got.has_value());
    REQUIRE(!got->outcome.has_value());
    CHECK(got->outcome.error().code == sluice::code::no_thread);
    rlimit now{};
    REQUIRE(::getrlimit(RLIMIT_NPROC, &now) == 0);
    faults::limit(RLIMIT_NPROC, now.rlim_max);
    got = upload(w.engine(), w.folder().path().string(), 300'000);
    REQUIRE(got.has_value());
    CHECK(got->published.has_value());
  });
}

TEST_CASE("one worker thread is enough for every operation") {
  const std::unique_ptr<support::temp_dir> folder = open_folder();
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    setting on{backend, backend, folder->path().string(), false, ""};
    world w(on, {{"sluice.pool.threads", "1"}, {"sluice.ring.workers_max", "1"}});
    const std::optional<uploaded> got = upload(w.engine(), w.folder().path().string(), 5'000'000);
    REQUIRE(got.has_value());
    CHECK(got->published.has_value());
    CHECK(w.counter("sluice.pool.threads") <= 1);
  }
}

namespace {

sluice::task<int> write_and_commit(sluice::file& into, const std::vector<std::byte>& bytes) {
  sluice::op_await writing = into.write(bytes, 0);
  const sluice::result<std::size_t> written = co_await writing;
  if (!written) co_return written.error().code;
  const sluice::result<void> committed = co_await into.commit();
  co_return committed ? 0 : committed.error().code;
}

}  // namespace

TEST_CASE("where the kernel can make no worker for the ring, what needs one ends all the same") {
  const std::unique_ptr<support::temp_dir> folder = open_folder();
  faults::in_child([&] {
    if (!support::has_backend("ring")) throw faults::cannot_show{"no io_uring here"};
    faults::become_ordinary_user();
    setting on{"ring", "ring", folder->path().string(), false, ""};
    world w(on);
    const int fd = ::open(w.at("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    sluice::result<sluice::file> into = sluice::file::adopt(w.engine(), fd);
    REQUIRE(into.has_value());
    faults::limit(RLIMIT_NPROC, 0);
    const std::vector<std::byte> bytes = pattern(1, 0, 300'000);
    // A sync always goes to a worker of the kernel's. With success or an error, but not never.
    const int told = w.run(write_and_commit(*into, bytes), 20s);
    if (told == 0) {
      CHECK(same_bytes(content_of(w.at("file")), bytes));
    } else {
      MESSAGE("without workers: ", std::string(sluice::code_name(told)));
    }
  });
}
