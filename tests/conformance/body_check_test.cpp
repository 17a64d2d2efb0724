// A check sees every byte of a body once, in order, before it is written; and what it refuses is
// not.
#include <atomic>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "support/recording_check.hpp"

namespace {

using namespace conformance;
using support::recording_check;
namespace code = sluice::code;

constexpr std::uint64_t block = 256 * 1024;

std::vector<std::string> paths_of(const setting& on) {
  if (on.direct) return {"direct", "copy"};
  return {"copy"};
}

sluice::file adopted(world& w, const std::string& name) {
  const int fd = ::open(w.at(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

struct received {
  sluice::result<sluice::receipt> outcome = sluice::fail(EINPROGRESS, "test");
  sluice::receipt progress;
  std::vector<std::byte> content;  // of the file, whatever the outcome
};

// Receives `sent`, the first `prefix` bytes of which came with the head, into a file of its own.
received receive(world& w, std::span<const std::byte> sent, std::size_t prefix,
                 sluice::body_check& check) {
  stream_pair ends = stream_pair::tcp();
  const std::span<const std::byte> rest = sent.subspan(prefix);
  peer sender(ends.take_theirs(), [rest](int fd) { put_dribbling(fd, rest, rest.size()); });
  received r;
  {
    sluice::file into = adopted(w, "file");
    sluice::stream from = adopt(w.engine(), ends.take_ours());
    const sluice::receive_options options{
        .length = sent.size(), .offset = 0, .prefix = sent.first(prefix), .check = &check};
    r.outcome = w.run(sluice::receive_to_file(from, into, options, &r.progress));
  }
  w.settle();
  r.content = content_of(w.at("file"));
  std::filesystem::remove(w.at("file"));
  return r;
}

bool is_empty_from(std::span<const std::byte> content, std::uint64_t at) {
  if (at >= content.size()) return true;
  return std::ranges::all_of(content.subspan(at), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

TEST_CASE("a check sees the body, all of it and nothing else, in order and one call at a time") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      for (const std::uint64_t length :
           {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{511}, block, 3 * block + 1234}) {
        for (const std::uint64_t prefix : {std::uint64_t{0}, std::uint64_t{13}, block + 13}) {
          if (prefix > length) continue;
          CAPTURE(length);
          CAPTURE(prefix);
          const std::vector<std::byte> sent = pattern(length + prefix, 0, length);
          recording_check check;
          const received r = receive(w, sent, prefix, check);
          REQUIRE(r.outcome.has_value());
          CHECK(r.outcome->bytes == length);
          CHECK(same_bytes(check.seen(), sent));
          CHECK(check.finished() == 1);
          CHECK(check.sound());
          CHECK(same_bytes(r.content, sent));
        }
      }
    }
    CHECK(w.counter("sluice.receive.refused") == 0);
  }
}

TEST_CASE("of a refused block and of what comes behind it nothing is written") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    std::uint64_t refused = 0;
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      const std::vector<std::byte> sent = pattern(5, 0, 6 * block + 1234);
      for (const std::size_t prefix : {std::size_t{0}, std::size_t{77}}) {
        for (const std::uint64_t at : {std::uint64_t{0}, 3 * block + 500, 6 * block + 1233}) {
          CAPTURE(prefix);
          CAPTURE(at);
          recording_check check({.refused_byte = at});
          const received r = receive(w, sent, prefix, check);
          REQUIRE(!r.outcome.has_value());
          CHECK(r.outcome.error().code == code::refused_by_check);
          CHECK(std::string(r.outcome.error().where) == "recording_check");
          CHECK(check.seen().size() <= at);
          CHECK(check.finished() == 0);
          CHECK(check.sound());
          CHECK(r.progress.bytes > at);
          CHECK(is_empty_from(r.content, check.seen().size()));
          CHECK(w.counter("sluice.receive.refused") == ++refused);
        }
      }
    }
  }
}

TEST_CASE("a body refused at its end has had its last block kept off the disk") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      for (const std::uint64_t length :
           {std::uint64_t{0}, std::uint64_t{1000}, 2 * block, 2 * block + 7}) {
        CAPTURE(length);
        const std::vector<std::byte> sent = pattern(6, 0, length);
        recording_check check({.refuses_end = true});
        const received r = receive(w, sent, 0, check);
        REQUIRE(!r.outcome.has_value());
        CHECK(r.outcome.error().code == code::refused_by_check);
        CHECK(r.progress.bytes == length);
        CHECK(same_bytes(check.seen(), sent));
        CHECK(check.finished() == 1);
        const std::uint64_t last_block = length == 0 ? 0 : (length - 1) / block * block;
        CHECK(is_empty_from(r.content, last_block));
        CHECK(
            same_bytes(std::span(r.content).first(last_block), std::span(sent).first(last_block)));
      }
    }
  }
}

TEST_CASE("a transfer ends with the error that its check gives, whatever that is") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    // EAGAIN and EINTR would have the loop call once more; 0 would pass for success.
    for (const int wanted : {EAGAIN, EINTR, ENOMEM, 0}) {
      CAPTURE(wanted);
      recording_check check({.refused_byte = block, .refusal = wanted});
      const received r = receive(w, pattern(7, 0, 3 * block), 0, check);
      REQUIRE(!r.outcome.has_value());
      CHECK(r.outcome.error().code == (wanted == 0 ? code::refused_by_check : wanted));
      CHECK(check.seen().size() == block);
      CHECK(check.sound());
    }
  }
}

TEST_CASE("a body that does not arrive whole is not judged as if it had") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> sent = pattern(8, 0, 2 * block + 100);
    stream_pair ends = stream_pair::tcp();
    peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
    recording_check check;
    upload_request request{w.folder().path(), "body", {}};
    request.body.length = sent.size() + 1;
    request.body.check = &check;
    const uploaded u =
        w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == code::end_of_stream);
    CHECK(check.finished() == 0);
    CHECK(same_bytes(check.seen(), std::span(sent).first(2 * block)));
    w.settle();
    CHECK(w.names().empty());
  }
}

TEST_CASE("a check and a forced splice do not go together, and the receipt says why") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.path", "splice"}});
    recording_check check;
    const received r = receive(w, pattern(9, 0, 100), 0, check);
    REQUIRE(!r.outcome.has_value());
    CHECK(r.outcome.error().code == code::path_unavailable);
    CHECK(std::string(r.progress.reason) == "a check wants to see the bytes");
    CHECK(check.seen().empty());
    CHECK(check.finished() == 0);
  }
}

TEST_CASE("a check has a range that begins inside a page by copy, in order, and never directly") {
  for (const setting& on : every_setting()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    const std::string reason = "a check wants to see an unaligned range in order";
    world w(on, {{"sluice.receive.direct_min_bytes", "4096"}});
    const std::vector<std::byte> sent = pattern(10, 0, 3 * block);
    sluice::file into = adopted(w, "file");
    for (const char* path : {"auto", "direct"}) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      recording_check check;
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      sluice::stream from = adopt(w.engine(), ends.take_ours());
      sluice::receipt progress;
      const sluice::receive_options options{
          .length = sent.size(), .offset = 100, .prefix = {}, .check = &check};
      const auto r = w.run(sluice::receive_to_file(from, into, options, &progress));
      from = {};
      CHECK(progress.reason == reason);
      CHECK(r.has_value() == (path == std::string("auto")));
      if (r) {
        CHECK(std::string(name(r->path)) == "copy");
        CHECK(same_bytes(check.seen(), sent));
      } else {
        CHECK(r.error().code == code::path_unavailable);
        CHECK(check.seen().empty());
      }
      sender.join(w);
    }
  }
}

TEST_CASE("the next block is received while one is checked, and not past the depth") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.depth", "2"}});
    // Held at its first block until two more are there: one behind it and one being filled.
    std::atomic<std::uint64_t> most{0};
    recording_check check({.before = [&](std::uint64_t at) {
      if (at > 0) return;
      support::comes_true([&] {
        const std::uint64_t leases = w.counter("sluice.memory.leases_in_use");
        most = std::max(most.load(), leases);
        return leases >= 3;
      });
      std::this_thread::sleep_for(20ms);  // enough for one more, if there were to be one
      most = std::max(most.load(), w.counter("sluice.memory.leases_in_use"));
    }});
    const std::vector<std::byte> sent = pattern(10, 0, 12 * block);
    const received r = receive(w, sent, 0, check);
    CHECK(r.outcome.has_value());
    CHECK(same_bytes(r.content, sent));
    CHECK(most == 3);
  }
}

TEST_CASE("the checks of two transfers run at the same time") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> sent = pattern(11, 0, 2 * block);
    std::atomic<int> here{0};
    std::atomic<int> met{0};
    const auto meet = [&here, &met](std::uint64_t at) {
      if (at > 0) return;
      ++here;
      if (support::comes_true([&here] { return here == 2; })) ++met;
    };
    recording_check first({.before = meet});
    recording_check second({.before = meet});
    std::vector<std::unique_ptr<peer>> senders;
    int ended = 0;
    for (recording_check* check : {&first, &second}) {
      stream_pair ends = stream_pair::tcp();
      senders.push_back(
          std::make_unique<peer>(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); }));
      upload_request request{w.folder().path(), "", {}};
      request.body.length = sent.size();
      request.body.check = check;
      w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                       [&ended](const uploaded& u) { ended += u.outcome ? 1 : 100; });
    }
    w.until([&ended] { return ended >= 2; });
    CHECK(ended == 2);
    CHECK(met == 2);
    CHECK(same_bytes(first.seen(), sent));
    CHECK(same_bytes(second.seen(), sent));
  }
}

TEST_CASE("uploads with checks share a few blocks and none keeps one that another needs") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}});
    constexpr std::size_t uploads = 12;
    REQUIRE(w.engine().core().blocks().blocks() < 4);
    const std::vector<std::byte> sent = pattern(12, 0, 3 * block + 5);
    std::vector<recording_check> checks(uploads);
    std::vector<std::unique_ptr<peer>> senders;
    std::size_t whole = 0;
    std::size_t ended = 0;
    for (recording_check& check : checks) {
      stream_pair ends = stream_pair::tcp();
      senders.push_back(
          std::make_unique<peer>(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); }));
      upload_request request{w.folder().path(), "", {}};
      request.body.length = sent.size();
      request.body.check = &check;
      w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                       [&](const uploaded& u) {
                         ++ended;
                         if (u.outcome) ++whole;
                       });
    }
    w.until([&ended] { return ended == uploads; });
    CHECK(whole == uploads);
    for (const recording_check& check : checks) CHECK(same_bytes(check.seen(), sent));
  }
}

TEST_CASE("a transfer cancelled during a check ends once that has, and writes nothing of it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> sent = pattern(13, 0, 3 * block);
    std::atomic<bool> entered{false};
    std::atomic<bool> go_on{false};
    recording_check check({.before = [&](std::uint64_t) {
      entered = true;
      support::comes_true([&go_on] { return go_on.load(); });
    }});
    stream_pair ends = stream_pair::tcp();
    peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
    upload_request request{w.folder().path(), "body", {}};
    request.body.length = sent.size();
    request.body.check = &check;
    std::optional<uploaded> told;
    const sluice::task_handle handle =
        w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                         [&told](uploaded u) { told = std::move(u); });
    w.until([&entered] { return entered.load(); });
    w.engine().cancel(handle);
    for (int i = 0; i < 10; ++i) w.engine().run_once(2ms);
    CHECK(!told.has_value());  // the check still reads the block
    go_on = true;
    w.until([&told] { return told.has_value(); });
    REQUIRE(!told->outcome.has_value());
    CHECK(told->outcome.error().code == ECANCELED);
    CHECK(check.seen().size() == block);
    CHECK(check.finished() == 0);
    w.settle();
    CHECK(w.names().empty());
  }
}

TEST_CASE("an upload with a check cancelled after any number of turns leaves nothing or all") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "2M"}, {"sluice.receive.depth", "3"}});
    const std::vector<std::byte> sent = pattern(14, 0, 5 * block + 321);
    for (int turns = 0; turns < 40; turns += 2) {
      CAPTURE(turns);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      recording_check check;
      upload_request request{w.folder().path(), "body", {}};
      request.body.length = sent.size();
      request.body.check = &check;
      int told = 0;
      const sluice::task_handle handle =
          w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                           [&told](const uploaded&) { ++told; });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
      CHECK(check.sound());
      CHECK(same_bytes(check.seen(), std::span(sent).first(check.seen().size())));
      if (w.names().empty()) continue;
      CHECK(same_bytes(content_of(w.at("body")), sent));
      std::filesystem::remove(w.at("body"));
    }
  }
}
