// Transfers cancelled at every step: one status each, nothing lost, nothing left behind.
#include <memory>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::uint64_t block = 256 * 1024;

sluice::task<sluice::result<sluice::receipt>> download(sluice::engine& e, sluice::stream to,
                                                       std::filesystem::path folder,
                                                       std::uint64_t length) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return std::unexpected(in.error());
  sluice::result<sluice::file> from = co_await in->open_file("source");
  if (!from) co_return std::unexpected(from.error());
  sluice::send_options options;
  options.length = length;
  co_return co_await sluice::send_from_file(to, *from, options);
}

upload_request wanted(const world& w, std::uint64_t length) {
  upload_request request{w.folder().path(), "body", {}};
  request.body.length = length;
  request.wanted = sluice::durability::durable;
  return request;
}

// Whole, or absent; and what was told is what is there.
void check_result(const world& w, const uploaded& u, const std::vector<std::byte>& sent) {
  if (!u.outcome) {
    CHECK(u.outcome.error().code == ECANCELED);
    CHECK(w.names().empty());
    return;
  }
  const int published = u.published ? 0 : u.published.error().code;
  CHECK((published == 0 || published == ECANCELED || published == code::durability_unknown));
  if (published == ECANCELED) {
    CHECK(w.names().empty());
  } else {
    CHECK(same_bytes(content_of(w.at("body")), sent));
    std::filesystem::remove(w.at("body"));
    CHECK(w.names().empty());
  }
}

}  // namespace

TEST_CASE("an upload cancelled after any number of turns ends once and leaves nothing or all") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "2M"}, {"sluice.receive.depth", "3"}});
    const std::vector<std::byte> sent = pattern(1, 0, 5 * block + 321);
    int cancelled = 0;
    for (int turns = 0; turns < 48; turns += turns < 24 ? 1 : 4) {
      CAPTURE(turns);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      int told = 0;
      uploaded last;
      const sluice::task_handle handle = w.engine().start(
          receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), wanted(w, sent.size())),
          [&told, &last](uploaded u) {
            ++told;
            last = std::move(u);
          });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.engine().cancel(handle);  // the second one finds nothing more to do
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
      if (!last.outcome) ++cancelled;
      check_result(w, last, sent);
    }
    CHECK(cancelled > 0);
  }
}

TEST_CASE("uploads and downloads cancelled at random moments end once each, in any order") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}, {"sluice.memory.block_bytes", "64K"}});
    constexpr std::uint64_t length = 900'007;
    const std::vector<std::byte> sent = pattern(2, 0, length);
    make_file(w.at("source"), sent);
    support::seeded_random random(7);
    for (int round = 0; round < 6; ++round) {
      CAPTURE(round);
      constexpr std::size_t each = 6;
      std::vector<std::unique_ptr<peer>> peers;
      std::vector<sluice::task_handle> handles;
      std::vector<int> told(2 * each);
      for (std::size_t i = 0; i < each; ++i) {
        stream_pair up = stream_pair::tcp();
        peers.push_back(std::make_unique<peer>(up.take_theirs(),
                                               [&sent, i](int fd) { put_dribbling(fd, sent, i); }));
        upload_request request = wanted(w, length);
        request.name = "body" + std::to_string(i);
        handles.push_back(
            w.engine().start(receive_upload(w.engine(), adopt(w.engine(), up.take_ours()), request),
                             [&count = told[i]](const uploaded&) { ++count; }));
        stream_pair down = stream_pair::tcp();
        peers.push_back(std::make_unique<peer>(down.take_theirs(), [](int fd) { take_all(fd); }));
        handles.push_back(w.engine().start(
            download(w.engine(), adopt(w.engine(), down.take_ours()), w.folder().path(), length),
            [&count = told[each + i]](const sluice::result<sluice::receipt>&) { ++count; }));
      }
      while (!handles.empty()) {
        for (std::uint64_t i = random.below(30); i > 0; --i) w.engine().run_once(1ms);
        const std::size_t which = random.below(handles.size());
        w.engine().cancel(handles[which]);
        handles.erase(handles.begin() + static_cast<std::ptrdiff_t>(which));
      }
      w.until([&w] { return w.engine().task_count() == 0; });
      w.settle();
      for (const int count : told) CHECK(count == 1);
      for (const std::string& name : w.names()) {
        CHECK((name == "source" || name.starts_with("body")));
        CHECK(same_bytes(content_of(w.at(name)), sent));
        if (name != "source") std::filesystem::remove(w.at(name));
      }
    }
  }
}

TEST_CASE("an engine that ends in the middle of transfers ends them, and nothing is left") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    for (int turns = 0; turns < 12; turns += 3) {
      CAPTURE(turns);
      std::vector<std::unique_ptr<peer>> peers;
      int told = 0;
      world w(on, {{"sluice.memory.arena_bytes", "1M"}});
      const std::vector<std::byte> sent = pattern(3, 0, 8 * block);
      for (int i = 0; i < 5; ++i) {
        stream_pair ends = stream_pair::tcp();
        peers.push_back(
            std::make_unique<peer>(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); }));
        upload_request request = wanted(w, sent.size());
        request.name.clear();
        w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                         [&told](const uploaded&) { ++told; });
      }
      for (int i = 0; i < turns; ++i) w.engine().run_once(1ms);
      w.end_engine();
      CHECK(told == 5);
      for (const auto& p : peers) p->join();
      w.count_again();
      CHECK(w.names().empty());
    }
  }
}

TEST_CASE("a transfer begun in a cancelled task does nothing") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    stream_pair ends = stream_pair::tcp();
    const auto cancelled_first = [](sluice::engine& e, sluice::stream from,
                                    upload_request request) -> sluice::task<uploaded> {
      sluice::result<sluice::directory> in =
          co_await sluice::directory::open(e, request.folder.string());
      sluice::result<sluice::file> into = co_await in->create();
      sluice::op_await sleeping = e.sleep_for(60s);
      (void)co_await sleeping;
      uploaded u;
      u.outcome = co_await sluice::receive_to_file(from, *into, request.body, &u.progress);
      co_return u;
    };
    std::optional<uploaded> told;
    const sluice::task_handle handle = w.engine().start(
        cancelled_first(w.engine(), adopt(w.engine(), ends.take_ours()), wanted(w, 4 * block)),
        [&told](uploaded u) { told = std::move(u); });
    for (int i = 0; i < 20; ++i) w.engine().run_once(1ms);
    w.engine().cancel(handle);
    w.until([&told] { return told.has_value(); });
    REQUIRE(!told->outcome.has_value());
    CHECK(told->outcome.error().code == ECANCELED);
    CHECK(told->progress.bytes == 0);
  }
}
