// Files that are still being written: nobody is told that they are published, or durable, as they
// are to be.
#include <fcntl.h>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "sluice/block_writer.hpp"
#include "storage/file_state.hpp"

namespace {

using namespace conformance;

constexpr std::size_t block = 256 * 1024;

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
  co_return 0;
}

int code_of(const sluice::result<void>& r) { return r ? 0 : r.error().code; }

sluice::task<int> publish(upload& u, std::string name, sluice::publish_options options = {}) {
  const sluice::result<void> done =
      co_await sluice::publish(u.made, u.in, std::move(name), options);
  co_return code_of(done);
}

sluice::task<int> commit(sluice::file& f) {
  const sluice::result<void> done = co_await f.commit();
  co_return code_of(done);
}

sluice::task<int> commit_to_publish(sluice::file& f) {
  const sluice::result<void> done = co_await f.commit_to_publish();
  co_return code_of(done);
}

sluice::task<int> flush(sluice::block_writer& writer) {
  const sluice::result<void> done = co_await writer.flush();
  co_return code_of(done);
}

sluice::task<sluice::result<sluice::block_writer>> open_writer(sluice::file& into) {
  // Nothing is written before it is asked for.
  co_return co_await sluice::block_writer::open(into, {.delay = 60s});
}

constexpr sluice::publish_options stored{.wanted = sluice::durability::stored};

// Of a file that is being written: no way to publish it, and a commit that says nothing of that.
void check_busy(world& w, upload& u) {
  CHECK(w.run(publish(u, "busy")) == EBUSY);
  CHECK(w.run(publish(u, "busy", stored)) == EBUSY);
  CHECK(w.run(commit_to_publish(u.made)) == EBUSY);
  CHECK(w.run(commit(u.made)) == 0);
  CHECK(std::ranges::count(w.names(), "busy") == 0);
  CHECK(w.counter("sluice.publish.count") == 0);
}

}  // namespace

TEST_CASE("a file into which a receive is writing is not published before that has ended") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    upload u;
    REQUIRE(w.run(make(w.engine(), w.folder().path(), u)) == 0);
    const std::vector<std::byte> sent = pattern(1, 0, 2 * block + 11);
    stream_pair ends = stream_pair::tcp();
    sluice::stream from = adopt(w.engine(), ends.take_ours());
    sluice::receive_options all;
    all.length = sent.size();
    std::optional<sluice::result<sluice::receipt>> received;
    w.engine().start(sluice::receive_to_file(from, u.made, all),
                     [&received](sluice::result<sluice::receipt> r) { received.emplace(r); });
    REQUIRE(send_all(ends.theirs(), std::span(sent).first(block + 5)));
    for (int i = 0; i < 5; ++i) w.engine().run_once(2ms);
    check_busy(w, u);
    REQUIRE(send_all(ends.theirs(), std::span(sent).subspan(block + 5)));
    w.until([&received] { return received.has_value(); });
    REQUIRE(received->has_value());
    CHECK(w.run(commit_to_publish(u.made)) == 0);
    CHECK(w.run(publish(u, "whole")) == 0);
    CHECK(same_bytes(content_of(w.at("whole")), sent));
    u = upload();
  }
}

TEST_CASE("a file is not published while a span_writer has it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    upload u;
    REQUIRE(w.run(make(w.engine(), w.folder().path(), u)) == 0);
    {
      sluice::span_writer writer(w.engine(), u.made);
      check_busy(w, u);
    }
    CHECK(w.run(publish(u, "name")) == 0);
    u = upload();
  }
}

TEST_CASE("a file of which a block writer holds bytes is published once they are stored") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    upload u;
    REQUIRE(w.run(make(w.engine(), w.folder().path(), u)) == 0);
    const std::vector<std::byte> bytes = pattern(1, 0, 10'000);
    {
      sluice::result<sluice::block_writer> writer = w.run(open_writer(u.made));
      REQUIRE(writer.has_value());
      sluice::lease lent = w.engine().core().blocks().try_take();
      REQUIRE(lent);
      std::ranges::copy(bytes, lent.data());
      const auto own = std::as_bytes(lent.bytes()).first(bytes.size());
      REQUIRE(writer->post(std::move(lent), own, 0).has_value());
      check_busy(w, u);
      CHECK(u.made.info()->bytes == 0);  // the commit did not write it, nor wait
      CHECK(w.run(flush(*writer)) == 0);
      CHECK(w.run(publish(u, "whole")) == 0);  // beside the writer, which may stay
    }
    CHECK(same_bytes(content_of(w.at("whole")), bytes));
    u = upload();
  }
}

TEST_CASE("while a file is being published nobody else publishes it, nor begins to write it") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    // The first publish waits for others to share its sync; nothing turns the loop meanwhile.
    world w(on, {{"sluice.commit.delay_us", "100000"}});
    upload u;
    REQUIRE(w.run(make(w.engine(), w.folder().path(), u)) == 0);
    REQUIRE(::pwrite(u.made.fd(), "content", 7, 0) == 7);
    std::optional<int> told;
    w.engine().start(publish(u, "first"), [&told](int c) { told = c; });
    CHECK(w.run(publish(u, "second")) == EBUSY);
    CHECK(w.run(publish(u, "second", stored)) == EBUSY);
    stream_pair ends = stream_pair::tcp();
    sluice::stream peer = adopt(w.engine(), ends.take_ours());
    sluice::receive_options all;
    all.length = 1;
    const auto received = w.run(sluice::receive_to_file(peer, u.made, all));
    REQUIRE(!received.has_value());
    CHECK(received.error().code == EBUSY);
    // Reading it may go on.
    sluice::send_options seven;
    seven.length = 7;
    CHECK(w.run(sluice::send_from_file(peer, u.made, seven)).has_value());
    w.until([&told] { return told.has_value(); });
    CHECK(told == 0);
    CHECK(w.run(publish(u, "second", stored)) == EINVAL);
    CHECK(w.names() == std::vector<std::string>{"first"});
    u = upload();
  }
}
