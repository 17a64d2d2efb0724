// Socket to file through its mapping: receive_test.cpp runs what all paths have in common.
#include <sys/ioctl.h>

#include <cstring>

#include "conformance/upload.hpp"
#include "support/recording_check.hpp"
#include "transfer/splice_ways.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::string_view by_mapping = "forced by sluice.receive.path=mapped";

template <class Check>
void for_each_setting(knob_list more, Check check) {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, more);
    REQUIRE(w.engine().set_knob("sluice.receive.path", "mapped").has_value());
    check(w);
  }
}

}  // namespace

TEST_CASE("every length around three pages is stored whole, with any part of it in the prefix") {
  for_each_setting({}, [](world& w) {
    for (const std::uint64_t length : splice_ways::small_lengths()) {
      CAPTURE(length);
      const std::uint64_t kept = length % 4 == 0 ? 0 : length % 700;
      const std::vector<std::byte> body = pattern(length, 0, length);
      sluice::receive_options options = of_length(length);
      options.prefix = std::span(body).first(std::min<std::uint64_t>(length, kept));
      const auto rest = std::span(body).subspan(options.prefix.size());
      const uploaded u = upload_from(w, options, [rest](int fd) { send_all(fd, rest); });
      REQUIRE(u.outcome.has_value());
      CHECK(same_bytes(content_of(w.at("body")), body));
      CHECK(std::string_view(name(u.outcome->path)) == "mapped");
      CHECK(u.outcome->reason == by_mapping);
      CHECK(u.outcome->bytes == length);
      CHECK(u.outcome->copies == 1);
      CHECK(u.outcome->copied_bytes == 0);
      CHECK(u.outcome->misrouted_bytes == options.prefix.size());
      std::filesystem::remove(w.at("body"));
    }
  });
}

TEST_CASE("a body of many windows that dribbles is whole, holds no block, and counts its faults") {
  for_each_setting({{"sluice.receive.mapped_bytes", "64K"}}, [](world& w) {
    const std::vector<std::byte> body = pattern(1, 0, 1'500'013);
    const std::uint64_t leases = w.counter("sluice.memory.leases_taken");
    const uploaded u =
        upload_from(w, of_length(body.size()), [&body](int fd) { put_dribbling(fd, body, 3); });
    REQUIRE(u.outcome.has_value());
    CHECK(same_bytes(content_of(w.at("body")), body));
    CHECK(u.outcome->faults > 0);
    CHECK(w.counter("sluice.receive.mapped_faults") >= u.outcome->faults);
    CHECK(w.counter("sluice.receive.transfers_mapped") == 1);
    CHECK(w.counter("sluice.memory.leases_taken") == leases);
  });
}

TEST_CASE("a peer that goes, resets or falls silent ends it, and the bytes told are there") {
  for_each_setting({{"sluice.receive.timeout_ms", "200"}}, [](world& w) {
    const std::vector<std::byte> body = pattern(2, 0, 300'001);
    const uploaded gone =
        upload_from(w, of_length(1 << 20), [&body](int fd) { send_all(fd, body); });
    REQUIRE(!gone.outcome.has_value());
    CHECK(gone.outcome.error().code == code::end_of_stream);
    CHECK(gone.progress.bytes == body.size());
    const uploaded reset = upload_from(w, of_length(1 << 20), [&body](int fd) {
      send_all(fd, body);
      support::reset_at_close(fd);
    });
    REQUIRE(!reset.outcome.has_value());
    CHECK(reset.outcome.error().code == ECONNRESET);
    const uploaded silent = upload_from(w, of_length(1 << 20), [](int fd) { stay_silent(fd); });
    REQUIRE(!silent.outcome.has_value());
    CHECK(silent.outcome.error().code == ETIMEDOUT);
  });
}

TEST_CASE("cancelled after any number of turns it ends once, with nothing left") {
  for_each_setting({{"sluice.receive.mapped_bytes", "64K"}}, [](world& w) {
    const std::vector<std::byte> sent = pattern(3, 0, 2'000'000);
    for (int turns = 0; turns < 24; ++turns) {
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { put_dribbling(fd, sent, 5); });
      int told = 0;
      upload_request request{w.folder().path(), "", of_length(sent.size())};
      const sluice::task_handle handle =
          w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                           [&told](const uploaded&) { ++told; });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
      CHECK(w.names().empty());
    }
  });
}

TEST_CASE("a file cut short by somebody else in the middle is an error and no signal") {
  for_each_setting({}, [](world& w) {
    make_file(w.at("file"), pattern(4, 0, 10));
    const int fd = ::open(w.at("file").c_str(), O_RDWR | O_CLOEXEC);
    sluice::result<sluice::file> into = sluice::file::adopt(w.engine(), fd);
    REQUIRE(into.has_value());
    const std::vector<std::byte> sent = pattern(5, 0, 1 << 20);
    stream_pair ends = stream_pair::tcp();
    sluice::stream from = adopt(w.engine(), ends.take_ours());
    std::optional<sluice::result<sluice::receipt>> told;
    w.engine().start(sluice::receive_to_file(from, *into, of_length(sent.size())),
                     [&told](sluice::result<sluice::receipt> r) { told.emplace(std::move(r)); });
    REQUIRE(send_all(ends.theirs(), std::span(sent).first(100'000)));
    int waiting = 1;
    w.until([&] { return ::ioctl(from.fd(), FIONREAD, &waiting) == 0 && waiting == 0; });
    REQUIRE(!told.has_value());
    REQUIRE(::truncate(w.at("file").c_str(), 4096) == 0);
    send_all(ends.theirs(), std::span(sent).subspan(100'000, 300'000));
    w.until([&told] { return told.has_value(); }, 10s);
    REQUIRE(!told->has_value());
    CHECK(told->error().code == EIO);
  });
}

namespace {

sluice::task<int> wait_for_block(sluice::engine& e) {
  sluice::lease_await leasing(e.core().blocks(), e.core().loop(), {});
  const sluice::result<sluice::lease> leased = co_await leasing;
  co_return leased ? 0 : leased.error().code;
}

}  // namespace

TEST_CASE("a peer above the minimum rate is served, though others wait for blocks: it holds none") {
  for_each_setting(
      {{"sluice.receive.timeout_ms", "50"}, {"sluice.receive.rate_min_bytes", "1K"}}, [](world& w) {
        std::vector<sluice::lease> taken;
        while (sluice::lease one = w.engine().core().blocks().try_take()) {
          taken.push_back(std::move(one));
        }
        int waited = -1;
        w.engine().start(wait_for_block(w.engine()), [&](int r) { waited = r; });
        const std::vector<std::byte> body = pattern(6, 0, 20'000);
        stream_pair ends = stream_pair::tcp();
        peer sender(ends.take_theirs(), [&body](int fd) {
          for (std::size_t at = 0; at < body.size(); at += 1000) {
            if (!send_all(fd, std::span(body).subspan(at, 1000))) return;
            std::this_thread::sleep_for(10ms);
          }
        });
        const upload_request request{w.folder().path(), "body", of_length(body.size())};
        const uploaded u =
            w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
        sender.join(w);
        REQUIRE(u.outcome.has_value());
        CHECK(u.outcome->short_ops >= 1);  // an interval ran out, and it was served further
        CHECK(same_bytes(content_of(w.at("body")), body));
        CHECK(waited == -1);
        taken.clear();
        w.until([&waited] { return waited == 0; });
      });
}

TEST_CASE("what it cannot carry is refused with the reason") {
  for_each_setting({}, [](world& w) {
    support::recording_check check;
    sluice::receive_options options = of_length(10);
    options.check = &check;
    const uploaded u = upload_from(w, options, [](int fd) { stay_silent(fd); });
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == code::path_unavailable);
    CHECK(std::string_view(u.outcome.error().where) == "a check wants to see the bytes");
    CHECK(std::string_view(name(u.progress.path)) == "mapped");
    CHECK(std::string_view(u.progress.reason) == "a check wants to see the bytes");
    CHECK(w.names().empty());
  });
}

TEST_CASE("a file that is not open for reading is refused before anything is written to it") {
  for_each_setting({}, [](world& w) {
    const std::vector<std::byte> body = pattern(43, 0, 1000);
    const std::string path = w.at("written only");
    make_file(path, {});
    sluice::result<sluice::file> into =
        sluice::file::adopt(w.engine(), ::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(into.has_value());
    stream_pair ends = stream_pair::tcp();
    sluice::stream from = adopt(w.engine(), ends.take_ours());
    sluice::receive_options options = of_length(body.size());
    options.prefix = std::span(body).first(500);
    sluice::receipt progress;
    const sluice::result<sluice::receipt> r =
        w.run(sluice::receive_to_file(from, *into, options, &progress));
    REQUIRE(!r.has_value());
    CHECK(r.error().code == code::path_unavailable);
    CHECK(std::string_view(r.error().where) == "the file is not open for reading");
    CHECK(std::string_view(progress.reason) == "the file is not open for reading");
    CHECK(progress.bytes == 0);
    CHECK(content_of(path).empty());
  });
}
