// Socket to file by splice, whoever splices: receive_test.cpp runs what all paths have in common.
#include <cstring>
#include <memory>

#include "conformance/upload.hpp"
#include "transfer/splice_ways.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

template <class Check>
void for_each_way(knob_list more, Check check) {
  splice_ways::for_each("sluice.receive.path", more,
                        [&check](world& w, const std::string&) { check(w); });
}

}  // namespace

TEST_CASE("every length around three pages is stored whole, with any part of it in the prefix") {
  for_each_way({}, [](world& w) {
    for (const std::uint64_t length : splice_ways::small_lengths()) {
      CAPTURE(length);
      const std::uint64_t kept =
          length % 4 == 0 ? 0 : std::min<std::uint64_t>(length, length % 700);
      const std::vector<std::byte> body = pattern(length, 0, length);
      sluice::receive_options options = of_length(length);
      options.prefix = std::span(body).first(kept);
      const auto rest = std::span(body).subspan(kept);
      const uploaded u = upload_from(w, options, [rest](int fd) { send_all(fd, rest); });
      REQUIRE(u.outcome.has_value());
      CHECK(same_bytes(content_of(w.at("body")), body));
      CHECK(std::string(name(u.outcome->path)) == "splice");
      CHECK(std::string(u.outcome->reason) == "forced by sluice.receive.path=splice");
      CHECK(u.outcome->bytes == length);
      CHECK(u.outcome->copies == 1);
      CHECK(u.outcome->copied_bytes == 0);
      CHECK(u.outcome->misrouted_bytes == kept);
      // The prefix, then rounds of three: poll, fill, empty.
      const std::uint64_t prefixed = kept > 0 ? 1 : 0;
      CHECK(u.outcome->ops >= prefixed + (length > kept ? 3 : 0));
      CHECK((u.outcome->ops - prefixed - u.outcome->short_ops) % 3 == 0);
      std::filesystem::remove(w.at("body"));
    }
    CHECK(w.counter("sluice.receive.transfers_splice") > 0);
    CHECK(w.counter("sluice.receive.copied_bytes") == 0);
  });
}

TEST_CASE("a body that dribbles passes a small pipe many times over") {
  for_each_way({{"sluice.splice.pipe_bytes", "4K"}}, [](world& w) {
    const std::vector<std::byte> body = pattern(1, 0, 1'500'013);
    const uploaded u =
        upload_from(w, of_length(body.size()), [&body](int fd) { put_dribbling(fd, body, 3); });
    REQUIRE(u.outcome.has_value());
    CHECK(same_bytes(content_of(w.at("body")), body));
    CHECK(w.counter("sluice.splice.pipes") == 1);
    CHECK(w.counter("sluice.splice.pipes_dropped") == 0);
  });
}

TEST_CASE("a peer that goes in the middle is told apart from one that resets, to the byte") {
  for_each_way({}, [](world& w) {
    const std::vector<std::byte> body = pattern(2, 0, 400'000);
    for (const std::uint64_t cut : {0U, 1U, 4097U, 399'999U}) {
      for (const bool reset : {false, true}) {
        CAPTURE(cut);
        CAPTURE(reset);
        const auto part = std::span(body).first(cut);
        const uploaded u = upload_from(w, of_length(body.size()), [part, reset](int fd) {
          send_all(fd, part);
          if (reset) {
            std::this_thread::sleep_for(20ms);  // a reset takes away what was not received yet
            support::reset_at_close(fd);
          }
        });
        REQUIRE_FALSE(u.outcome.has_value());
        CHECK(u.outcome.error().code == (reset ? ECONNRESET : code::end_of_stream));
        CHECK(u.progress.bytes <= cut);
        if (!reset) CHECK(u.progress.bytes == cut);
        CHECK(w.names().empty());
      }
    }
  });
}

TEST_CASE("a peer that trickles below the minimum rate is too slow, though never silent") {
  for_each_way({{"sluice.receive.timeout_ms", "80"}, {"sluice.receive.rate_min_bytes", "1M"}},
               [](world& w) {
                 const uploaded u = upload_from(w, of_length(1 << 20), [](int fd) {
                   const std::byte one{};
                   for (int i = 0; i < 2000; ++i) {
                     if (!send_all(fd, std::span(&one, 1))) return;
                     std::this_thread::sleep_for(2ms);
                   }
                 });
                 REQUIRE_FALSE(u.outcome.has_value());
                 CHECK(u.outcome.error().code == code::too_slow);
               });
}

TEST_CASE("cancelled after any number of turns, no byte gets into the next transfer's file") {
  for_each_way(
      {{"sluice.splice.pipes_max", "1"}, {"sluice.splice.pipe_bytes", "64K"}}, [](world& w) {
        const std::vector<std::byte> first = pattern(3, 0, 2'000'003);
        const std::vector<std::byte> second = pattern(4, 0, 100'001);
        int cancelled = 0;
        for (int turns = 0; turns < 24; ++turns) {
          CAPTURE(turns);
          stream_pair ends = stream_pair::tcp();
          peer sender(ends.take_theirs(), [&first](int fd) { send_all(fd, first); });
          int told = 0;
          uploaded last;
          upload_request request{w.folder().path(), "body", of_length(first.size())};
          const sluice::task_handle handle = w.engine().start(
              receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
              [&](uploaded u) {
                ++told;
                last = std::move(u);
              });
          for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
          w.engine().cancel(handle);
          w.until([&told] { return told > 0; });
          CHECK(told == 1);
          sender.join(w);
          if (last.outcome) {
            std::filesystem::remove(w.at("body"));
          } else {
            CHECK(last.outcome.error().code == ECANCELED);
            ++cancelled;
          }
          const uploaded next =
              upload_from(w, of_length(second.size()), [&second](int fd) { send_all(fd, second); });
          REQUIRE(next.outcome.has_value());
          CHECK(same_bytes(content_of(w.at("body")), second));
          std::filesystem::remove(w.at("body"));
        }
        CHECK(cancelled > 0);
        CHECK(w.counter("sluice.splice.pipes") <= 1);
      });
}

TEST_CASE("many uploads share one pipe, and each file has its own bytes") {
  for_each_way({{"sluice.splice.pipes_max", "1"}}, [](world& w) {
    constexpr std::size_t uploads = 8;
    std::vector<std::vector<std::byte>> bodies;
    for (std::size_t i = 0; i < uploads; ++i) bodies.push_back(pattern(10 + i, 0, 300'000 + i));
    std::vector<std::unique_ptr<peer>> senders;
    std::size_t whole = 0;
    std::size_t ended = 0;
    for (std::size_t i = 0; i < uploads; ++i) {
      stream_pair ends = stream_pair::tcp();
      senders.push_back(std::make_unique<peer>(
          ends.take_theirs(), [&body = bodies[i], i](int fd) { put_dribbling(fd, body, i); }));
      upload_request request{w.folder().path(), "body" + std::to_string(i),
                             of_length(bodies[i].size())};
      w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                       [&](const uploaded& u) {
                         ++ended;
                         if (u.outcome && u.published) ++whole;
                       });
    }
    w.until([&] { return ended == uploads; });
    CHECK(whole == uploads);
    for (std::size_t i = 0; i < uploads; ++i) {
      CHECK(same_bytes(content_of(w.at("body" + std::to_string(i))), bodies[i]));
    }
    w.settle();
    splice_ways::check_pipes(w);
    CHECK(w.counter("sluice.splice.pipes") == 1);
  });
}

TEST_CASE("an upload for which no pipe becomes free says ENOBUFS") {
  for_each_way({{"sluice.splice.pipes_max", "1"}, {"sluice.receive.timeout_ms", "50"}},
               [](world& w) {
                 std::optional<sluice::result<sluice::pipe_lease>> taken =
                     w.engine().core().pipes().try_take();
                 REQUIRE((taken && *taken));
                 const uploaded u = upload_from(w, of_length(1000), [](int fd) {
                   send_all(fd, pattern(5, 0, 1000));
                   stay_silent(fd);
                 });
                 REQUIRE_FALSE(u.outcome.has_value());
                 CHECK(u.outcome.error().code == ENOBUFS);
                 CHECK(u.progress.bytes == 0);
               });
}

TEST_CASE("the time that an upload waits for a pipe is not held against its peer") {
  for_each_way({{"sluice.splice.pipes_max", "1"},
                {"sluice.receive.timeout_ms", "300"},
                {"sluice.receive.rate_min_bytes", "2M"}},
               [](world& w) {
                 std::optional<sluice::result<sluice::pipe_lease>> taken =
                     w.engine().core().pipes().try_take();
                 REQUIRE((taken && *taken));
                 w.engine().spawn(splice_ways::hold(w.engine(), std::move(**taken), 400ms));
                 const std::vector<std::byte> body = pattern(6, 0, 600'000);
                 const uploaded u = upload_from(w, of_length(body.size()),
                                                [&body](int fd) { send_all(fd, body); });
                 CHECK(u.outcome.has_value());
                 CHECK(same_bytes(content_of(w.at("body")), body));
               });
}

TEST_CASE("where splice is not allowed a forced splice is refused with the reason") {
  for (setting on : every_setting()) {
    on.hidden = "splice";
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.path", "splice"}});
    const uploaded u = upload_from(w, of_length(100), [](int fd) { stay_silent(fd); });
    REQUIRE_FALSE(u.outcome.has_value());
    CHECK(u.outcome.error().code == code::path_unavailable);
    CHECK(std::string(u.outcome.error().where).find("not allowed") != std::string::npos);
  }
}

TEST_CASE("a file that cannot be spliced into is refused with the reason") {
  for_each_way({}, [](world& w) {
    const std::vector<std::byte> body = pattern(7, 0, 10'000);
    for (const std::size_t kept : {std::size_t{0}, std::size_t{100}}) {
      CAPTURE(kept);
      sluice::result<sluice::file> into = sluice::file::adopt(
          w.engine(), ::open(w.at("body").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      REQUIRE(into.has_value());
      // Behind its back: to what only appends splice(2) says EINVAL.
      REQUIRE(::fcntl(into->fd(), F_SETFL, O_APPEND) == 0);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&body, kept](int fd) {
        send_all(fd, std::span(body).subspan(kept));
        stay_silent(fd);
      });
      sluice::stream from = adopt(w.engine(), ends.take_ours());
      sluice::receive_options options = of_length(body.size());
      options.prefix = std::span(body).first(kept);
      sluice::receipt progress;
      const auto received = w.run(sluice::receive_to_file(from, *into, options, &progress));
      from = sluice::stream();
      sender.join(w);
      REQUIRE_FALSE(received.has_value());
      CHECK(received.error().code == code::path_unavailable);
      CHECK(std::string(received.error().where) == "splice refused by the filesystem or socket");
      CHECK(std::string(progress.reason) == received.error().where);
      CHECK(std::string(name(progress.path)) == "splice");
      CHECK(progress.bytes == kept);
    }
  });
}

TEST_CASE("a range past 2^63 is refused, in both directions") {
  for (const setting& on : every_setting()) {
    world w(on);
    sluice::receive_options far = of_length(10);
    far.offset = ~std::uint64_t{0} / 2 - 5;
    const uploaded u = upload_from(w, far, [](int fd) { stay_silent(fd); });
    REQUIRE_FALSE(u.outcome.has_value());
    CHECK(u.outcome.error().code == EINVAL);
  }
}

TEST_CASE(
    "urgent data refuses a forced splice with the reason, and neither spins nor loses bytes") {
  for_each_way({}, [](world& w) {
    const std::vector<std::byte> body = pattern(30, 0, 100'000);
    for (const bool ends_there : {false, true}) {
      for (const std::uint64_t cut : {0U, 3U, 70'000U}) {
        CAPTURE(ends_there);
        CAPTURE(cut);
        const uploaded u = upload_from(w, of_length(body.size()), [&body, cut, ends_there](int fd) {
          send_all(fd, std::span(body).first(cut));
          const std::byte urgent{'!'};
          ::send(fd, &urgent, 1, MSG_OOB | MSG_NOSIGNAL);
          send_all(fd, std::span(body).subspan(cut));
          if (ends_there) ::shutdown(fd, SHUT_WR);
          stay_silent(fd);
        });
        REQUIRE_FALSE(u.outcome.has_value());
        CHECK(u.outcome.error().code == code::path_unavailable);
        CHECK(std::string(u.outcome.error().where).find("urgent") != std::string::npos);
        CHECK(std::string(u.progress.reason).find("urgent") != std::string::npos);
        CHECK(u.progress.bytes == cut);
        CHECK(u.ops < 1000);
        CHECK(w.names().empty());
      }
    }
  });
}
