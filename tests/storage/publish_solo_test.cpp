// A publish that is one call of a worker, among workers that have other things to do.
#include <condition_variable>
#include <mutex>

#include "conformance/suite.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

// Holds the workers that come by until it is opened.
class gate {
 public:
  static std::int64_t pass(void* context) {
    gate& g = *static_cast<gate*>(context);
    std::unique_lock hold(g.mutex_);
    ++g.here_;
    g.changed_.wait(hold, [&g] { return g.open_; });
    return 0;
  }
  void open() {
    const std::lock_guard hold(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  std::size_t here() {
    const std::lock_guard hold(mutex_);
    return here_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t here_ = 0;
  bool open_ = false;
};

constexpr std::size_t threads = 2;

struct upload {
  sluice::directory in;
  sluice::file made;
};

sluice::task<int> make(sluice::engine& e, std::filesystem::path folder, upload& u) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return in.error().code;
  u.in = std::move(*in);
  sluice::result<sluice::file> made = co_await u.in.create();
  if (!made) co_return made.error().code;
  u.made = std::move(*made);
  const std::vector<std::byte> content = pattern(1, 0, 5000);
  sluice::op_await writing = u.made.write(content, 0);
  const sluice::result<std::size_t> written = co_await writing;
  co_return written ? 0 : written.error().code;
}

sluice::task<int> publish(upload& u) {
  std::string name = "name";
  const sluice::result<void> done = co_await sluice::publish(u.made, u.in, std::move(name));
  co_return done ? 0 : done.error().code;
}

sluice::task<void> hold_worker(sluice::engine& e, gate& at) {
  const auto passed = co_await e.run_on_worker(gate::pass, &at);
  static_cast<void>(passed);
}

}  // namespace

TEST_CASE("a solo publish cancelled while all workers are busy has done nothing") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.pool.threads", std::to_string(threads)}});
    upload u;
    REQUIRE(w.run(make(w.engine(), w.folder().path(), u)) == 0);
    const std::vector<std::string> before = w.names();
    gate busy;
    for (std::size_t i = 0; i < threads; ++i) w.engine().spawn(hold_worker(w.engine(), busy));
    w.until([&busy] { return busy.here() == threads; });
    std::optional<int> told;
    const sluice::task_handle handle = w.engine().start(publish(u), [&told](int c) { told = c; });
    for (int i = 0; i < 5; ++i) w.engine().run_once(1ms);
    CHECK_FALSE(told);
    w.engine().cancel(handle);
    w.until([&told] { return told.has_value(); });  // though the workers are still held
    CHECK(told == ECANCELED);
    CHECK(w.names() == before);
    CHECK(w.counter("sluice.publish.count") == 0);
    CHECK(w.counter("sluice.commit.failures") == 0);
    busy.open();
    // The file is as it was, and nobody's place among the solos is lost.
    CHECK(w.run(publish(u)) == 0);
    CHECK(w.counter("sluice.publish.solo") == 1);
    CHECK(w.names() == std::vector<std::string>{"name"});
    CHECK(same_bytes(content_of(w.at("name")), pattern(1, 0, 5000)));
    u = upload();
    w.settle();
  }
}
