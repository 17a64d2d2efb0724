#include <cstring>

#include "conformance/suite.hpp"
#include "support/recording_check.hpp"

namespace {

using namespace conformance;

struct written {
  sluice::result<sluice::receipt> outcome = sluice::fail(EINPROGRESS, "test");
  sluice::receipt progress;
  int write_failure = 0;
  std::uint64_t writes = 0;
  std::uint64_t leases_max = 0;
};

// As a chunked body lies in received blocks: pieces of every size with gaps between them, and now
// and then one that lies elsewhere.
sluice::task<written> write_pieces(sluice::engine& e, std::filesystem::path folder,
                                   const std::vector<std::byte>& body, std::uint64_t seed,
                                   sluice::body_check* check = nullptr) {
  written w;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return w;
  sluice::result<sluice::file> into = co_await in->create();
  if (!into) co_return w;
  sluice::span_writer writer(e, *into, check);
  support::seeded_random random(seed);
  std::size_t done = 0;
  while (done < body.size()) {
    sluice::lease_await leasing = e.acquire_block();
    sluice::result<sluice::lease> block = co_await leasing;
    if (!block) co_return w;
    w.leases_max = std::max(w.leases_max, *e.counters().get("sluice.memory.leases_in_use"));
    std::vector<iovec> spans;
    for (std::size_t at = random.below(9); at < block->size() && done < body.size();) {
      const std::size_t piece = std::min<std::size_t>(
          {random.below(random.one_in(8) ? 60'000 : 900), block->size() - at, body.size() - done});
      const std::byte* from = body.data() + done;
      if (random.one_in(16)) {
        spans.push_back({const_cast<std::byte*>(from), piece});
      } else {
        std::memcpy(block->data() + at, from, piece);
        spans.push_back({block->data() + at, piece});
      }
      done += piece;
      at += piece + 7;
    }
    ++w.writes;
    const sluice::body_part part =
        done == body.size() ? sluice::body_part::last : sluice::body_part::inner;
    const sluice::result<void> begun = co_await writer.write(std::move(*block), spans, part);
    spans.assign(spans.size(), iovec{nullptr, 1});  // the writer has its own copy by now
    if (!begun) {
      w.write_failure = begun.error().code;
      break;
    }
  }
  w.outcome = co_await writer.finish();
  if (w.outcome) {
    const sluice::result<void> published = co_await sluice::publish(*into, *in, "body");
    if (!published) w.outcome = std::unexpected(published.error());
  }
  co_return w;
}

sluice::task<sluice::result<sluice::receipt>> write_nothing(sluice::engine& e,
                                                            std::filesystem::path folder) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->create();
  sluice::span_writer writer(e, *into);
  co_return co_await writer.finish();
}

struct ending {
  int last = 0;   // of the write that says it is the last, when one does
  int after = 0;  // of another behind it
  int finish = 0;
};

// A few bytes, then the last part without any, then one more; or the few bytes alone.
enum class says_last : std::uint8_t { yes, no };
sluice::task<ending> write_and_end(sluice::engine& e, std::filesystem::path folder,
                                   std::span<const std::byte> few, says_last last,
                                   sluice::body_check* check) {
  const auto code_of = [](const auto& r) { return r ? 0 : r.error().code; };
  ending told;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->create();
  sluice::span_writer writer(e, *into, check);
  const iovec span{const_cast<std::byte*>(few.data()), few.size()};
  if (!few.empty()) (void)co_await writer.write({}, {&span, 1});
  if (last == says_last::yes) {
    told.last = code_of(co_await writer.write({}, {}, sluice::body_part::last));
    told.after = code_of(co_await writer.write({}, {&span, 1}));
  }
  told.finish = code_of(co_await writer.finish());
  co_return told;
}

// Into a file that is open for reading only: every write fails with EBADF.
sluice::task<written> write_refused(sluice::engine& e, std::filesystem::path folder) {
  written w;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->open_file("source");
  sluice::span_writer writer(e, *into);
  for (int i = 0; i < 100 && w.write_failure == 0; ++i) {
    sluice::lease_await leasing = e.acquire_block();
    sluice::result<sluice::lease> block = co_await leasing;
    if (!block) co_return w;
    const iovec all{block->data(), block->size()};
    const sluice::result<void> begun = co_await writer.write(std::move(*block), {&all, 1});
    if (!begun) w.write_failure = begun.error().code;
  }
  w.outcome = co_await writer.finish(&w.progress);
  co_return w;
}

sluice::file adopted(world& w, const std::string& name, int flags) {
  const int fd = ::open(w.at(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

// All of `bytes` by one write, the last.
sluice::task<sluice::result<sluice::receipt>> write_once(sluice::engine& e, sluice::file& into,
                                                         std::span<const std::byte> bytes,
                                                         sluice::receipt* progress = nullptr) {
  sluice::span_writer writer(e, into);
  const iovec all{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const sluice::result<void> begun = co_await writer.write({}, {&all, 1}, sluice::body_part::last);
  const sluice::result<sluice::receipt> done = co_await writer.finish(progress);
  CHECK(begun.has_value() == done.has_value());
  if (!begun) co_return std::unexpected(begun.error());
  co_return done;
}

sluice::task<sluice::result<sluice::receipt>> finish_at_once(sluice::engine& e,
                                                             sluice::file& into) {
  sluice::span_writer writer(e, into);
  co_return co_await writer.finish();
}

}  // namespace

TEST_CASE("pieces of any size arrive in the file one after the other") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.depth", "3"}});
    for (const std::uint64_t seed : {1, 2, 3}) {
      CAPTURE(seed);
      const std::vector<std::byte> body = pattern(seed, 0, (seed << 20) + seed * 4321);
      const written done = w.run(write_pieces(w.engine(), w.folder().path(), body, seed));
      REQUIRE(done.outcome.has_value());
      CHECK(same_bytes(content_of(w.at("body")), body));
      CHECK(std::string(name(done.outcome->path)) == "copy");
      CHECK(std::strlen(done.outcome->reason) > 0);
      CHECK(done.outcome->bytes == body.size());
      CHECK(done.outcome->copies == 2);
      CHECK(done.outcome->copied_bytes == 0);
      CHECK(done.outcome->ops == done.writes);
      CHECK(done.outcome->first_byte <= done.outcome->last_byte);
      CHECK(done.outcome->last_byte <= done.outcome->stored);
      CHECK(done.leases_max <= 4);  // three behind the receive, and its own
      std::filesystem::remove(w.at("body"));
    }
  }
}

TEST_CASE("a file that comes with O_DIRECT takes pieces of any size, and is left without it") {
  for (const setting& on : every_setting()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> body = pattern(6, 0, 10'001);
    sluice::file into = adopted(w, "body", O_DIRECT);
    const auto written = w.run(write_once(w.engine(), into, std::span(body).subspan(1)));
    CHECK(written.has_value());
    CHECK(same_bytes(content_of(w.at("body")), std::span(body).subspan(1)));
    CHECK((::fcntl(into.fd(), F_GETFL) & O_DIRECT) == 0);
  }
}

TEST_CASE("a forced path is taken when it is copy, and else refused with the reason") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> body = pattern(7, 0, 10'001);
    sluice::file into = adopted(w, "body", 0);
    for (const char* path : {"direct", "splice", "mapped"}) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      sluice::receipt progress;
      const auto written = w.run(write_once(w.engine(), into, body, &progress));
      REQUIRE(!written.has_value());
      CHECK(written.error().code == sluice::code::path_unavailable);
      CHECK(std::string(written.error().where) == "a body that comes in pieces can only be copied");
      CHECK(std::string(name(progress.path)) == path);
      CHECK(std::string(progress.reason) == written.error().where);
      CHECK(progress.bytes == 0);
      CHECK(!w.run(finish_at_once(w.engine(), into)).has_value());
      CHECK(content_of(w.at("body")).empty());
    }
    for (const char* path : {"copy", "auto"}) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      const auto written = w.run(write_once(w.engine(), into, body));
      REQUIRE(written.has_value());
      CHECK(std::string(written->reason) == (path == std::string("copy")
                                                 ? "forced by sluice.receive.path=copy"
                                                 : "the body comes in pieces"));
      CHECK(same_bytes(content_of(w.at("body")), body));
    }
  }
}

TEST_CASE("a file that is closed is told by the first write and by finish") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file closed;
    const auto written = w.run(write_once(w.engine(), closed, pattern(1, 0, 10)));
    REQUIRE(!written.has_value());
    CHECK(written.error().code == EBADF);
    const auto unwritten = w.run(finish_at_once(w.engine(), closed));
    REQUIRE(!unwritten.has_value());
    CHECK(unwritten.error().code == EBADF);
  }
}

TEST_CASE("a body without pieces is an empty file with its receipt") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const sluice::result<sluice::receipt> done =
        w.run(write_nothing(w.engine(), w.folder().path()));
    REQUIRE(done.has_value());
    CHECK(done->bytes == 0);
  }
}

TEST_CASE("a write that fails is told by the next write and by finish, and no lease is lost") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(1, 0, 10));
    const written done = w.run(write_refused(w.engine(), w.folder().path()));
    CHECK(done.write_failure == EBADF);
    REQUIRE(!done.outcome.has_value());
    CHECK(done.outcome.error().code == EBADF);
    CHECK(std::strlen(done.progress.reason) > 0);  // what was tried is told all the same
    CHECK(done.progress.copies == 2);
    CHECK(done.progress.bytes > 0);
    CHECK(done.progress.ops > 0);
    CHECK(same_bytes(content_of(w.at("source")), pattern(1, 0, 10)));
  }
}

TEST_CASE("a check sees the pieces of a body in their order and judges them as a whole") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.depth", "3"}});
    const std::vector<std::byte> body = pattern(4, 0, 3'000'000);
    support::recording_check passes;
    const written done = w.run(write_pieces(w.engine(), w.folder().path(), body, 4, &passes));
    REQUIRE(done.outcome.has_value());
    CHECK(same_bytes(passes.seen(), body));
    CHECK(passes.finished() == 1);
    CHECK(passes.sound());
    CHECK(same_bytes(content_of(w.at("body")), body));
    std::filesystem::remove(w.at("body"));

    support::recording_check refuses({.refuses_end = true});
    const written not_done = w.run(write_pieces(w.engine(), w.folder().path(), body, 4, &refuses));
    REQUIRE(!not_done.outcome.has_value());
    CHECK(not_done.outcome.error().code == sluice::code::refused_by_check);
    CHECK(not_done.write_failure == 0);  // known only once the last part had been looked at
    CHECK(same_bytes(refuses.seen(), body));

    support::recording_check early({.refused_byte = 5000});
    const written ended = w.run(write_pieces(w.engine(), w.folder().path(), body, 4, &early));
    REQUIRE(!ended.outcome.has_value());
    CHECK(ended.outcome.error().code == sluice::code::refused_by_check);
    CHECK(ended.write_failure == sluice::code::refused_by_check);
    CHECK(early.finished() == 0);
    CHECK(early.sound());
    w.settle();
    CHECK(w.names().empty());
  }
}

TEST_CASE("a check must be told the last part, which may be empty, and nothing comes behind it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> few = pattern(1, 0, 100);
    for (const std::span<const std::byte> body : {std::span(few), std::span(few).first(0)}) {
      CAPTURE(body.size());
      support::recording_check check;
      const ending told =
          w.run(write_and_end(w.engine(), w.folder().path(), body, says_last::yes, &check));
      CHECK(told.last == 0);
      CHECK(told.after == EINVAL);
      CHECK(told.finish == 0);
      CHECK(same_bytes(check.seen(), body));
      CHECK(check.finished() == 1);

      support::recording_check unjudged;
      CHECK(w.run(write_and_end(w.engine(), w.folder().path(), body, says_last::no, &unjudged))
                .finish == EINVAL);
      CHECK(unjudged.finished() == 0);
      CHECK(w.run(write_and_end(w.engine(), w.folder().path(), body, says_last::no, nullptr))
                .finish == 0);
    }
  }
}

TEST_CASE("a cancelled writer finishes once, with everything given back") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.depth", "2"}, {"sluice.memory.arena_bytes", "1M"}});
    const std::vector<std::byte> body = pattern(9, 0, 8 << 20);
    for (int turns = 0; turns < 40; turns += 3) {
      CAPTURE(turns);
      int told = 0;
      written last;
      const sluice::task_handle handle = w.engine().start(
          write_pieces(w.engine(), w.folder().path(), body, 5), [&told, &last](written d) {
            ++told;
            last = std::move(d);
          });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
      // It was faster than the cancel, or had its name already.
      if (last.outcome || last.outcome.error().code == sluice::code::durability_unknown) {
        CHECK(same_bytes(content_of(w.at("body")), body));
        std::filesystem::remove(w.at("body"));
      }
      CHECK(w.names().empty());
    }
  }
}
