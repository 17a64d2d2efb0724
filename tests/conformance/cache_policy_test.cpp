// What a transfer leaves in the page cache: what its policy says, on every path and backend.
#include <cstring>

#include "conformance/download.hpp"
#include "support/cached_pages.hpp"

namespace {

using namespace conformance;
using sluice::cache_policy;
namespace code = sluice::code;

constexpr std::uint64_t length = 6 * 1024 * 1024 + 321;
constexpr std::uint64_t page = 4096;

std::uint64_t cached_in(const std::string& path, std::uint64_t bytes = length) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  const std::uint64_t cached = support::cached_bytes(fd, 0, bytes);
  ::close(fd);
  return cached;
}

// Pages in write-back go when that ends.
bool becomes_empty(const std::string& path) {
  return support::comes_true([&path] { return cached_in(path) <= 2 * page; });
}

uploaded receive(world& w, cache_policy policy, const std::vector<std::byte>& body) {
  sluice::receive_options options = of_length(body.size());
  options.cache = policy;
  return upload_from(w, options, [&body](int fd) { send_all(fd, body); });
}

void evict(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::fsync(fd) == 0);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

}  // namespace

TEST_CASE("a body received leaves in the page cache what its policy says") {
  const std::vector<std::byte> body = pattern(51, 0, length);
  for (const setting& on : every_setting()) {
    if (!support::can_drop_pages(on.folder)) continue;
    CAPTURE(on.name);
    for (const char* path : {"auto", "copy", "splice"}) {
      CAPTURE(path);
      world w(on, {{"sluice.storage.drop_bytes", "1M"}, {"sluice.receive.path", path}});
      for (const cache_policy policy :
           {cache_policy::cached, cache_policy::drop_behind, cache_policy::dontcache}) {
        CAPTURE(static_cast<int>(policy));
        const uploaded u = receive(w, policy, body);
        REQUIRE(u.outcome.has_value());
        CHECK(u.outcome->path != sluice::path::direct);
        if (policy == cache_policy::cached) {
          CHECK(cached_in(w.at("body")) >= length);
        } else {
          CHECK(becomes_empty(w.at("body")));
        }
        CHECK(same_bytes(content_of(w.at("body")), body));
        std::filesystem::remove(w.at("body"));
      }
      CHECK(w.counter("sluice.cache.dropped_bytes") >= length / page * page);
    }
    world w(on);
    if (!on.direct) continue;
    const uploaded u = receive(w, cache_policy::direct, body);
    REQUIRE(u.outcome.has_value());
    CHECK(u.outcome->path == sluice::path::direct);
    CHECK(std::string_view(u.outcome->reason) == "asked for: cache policy direct");
    CHECK(cached_in(w.at("body")) <= 2 * page);
  }
}

TEST_CASE("a file sent leaves in the page cache what its policy says") {
  const std::vector<std::byte> body = pattern(52, 0, length);
  for (const setting& on : every_setting()) {
    if (!support::can_drop_pages(on.folder)) continue;
    CAPTURE(on.name);
    world w(on, {{"sluice.storage.drop_bytes", "1M"}});
    make_file(w.at("source"), body);
    for (const cache_policy policy : {cache_policy::cached, cache_policy::drop_behind,
                                      cache_policy::dontcache, cache_policy::direct}) {
      CAPTURE(static_cast<int>(policy));
      if (policy == cache_policy::direct && !on.direct) continue;
      sluice::send_options options = range(0, length);
      options.cache = policy;
      options.content = sluice::file_content::unchanging;
      // The kernel keeps a page that somebody, even its own read-ahead, has in hand: few tries.
      bool as_it_says = false;
      for (int tries = 0; tries < 3 && !as_it_says; ++tries) {
        evict(w.at("source"));
        const sent s = send_range(w, options, take_all);
        REQUIRE(s.outcome.has_value());
        CHECK(same_bytes(s.arrived, body));
        as_it_says = policy == cache_policy::cached ? cached_in(w.at("source")) >= length
                                                    : becomes_empty(w.at("source"));
      }
      CHECK(as_it_says);
    }
  }
}

TEST_CASE("a receive is never held up by write-back, and a cancel ends both") {
  const std::vector<std::byte> body = pattern(53, 0, length);
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.storage.drop_bytes", "64K"}});
    for (int turns = 0; turns < 40; turns += 3) {
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&body](int fd) { send_all(fd, body); });
      int told = 0;
      upload_request request{w.folder().path(), "", of_length(length)};
      request.body.cache = cache_policy::drop_behind;
      const sluice::task_handle handle =
          w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                           [&told](const uploaded&) { ++told; });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
    }
  }
}

TEST_CASE("a policy that contradicts a forced path is refused with the reason") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(54, 0, 10));
    const auto refusal_of = [&w](const char* path, cache_policy policy) {
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      sluice::receive_options options = of_length(10);
      options.cache = policy;
      const uploaded u = upload_from(w, options, [](int fd) { stay_silent(fd); });
      REQUIRE(!u.outcome.has_value());
      CHECK(u.outcome.error().code == code::path_unavailable);
      return std::string(u.outcome.error().where);
    };
    const std::string wants_none = "the cache policy wants no pages in the cache";
    CHECK(refusal_of("copy", cache_policy::direct) == wants_none);
    CHECK(refusal_of("splice", cache_policy::direct) == wants_none);
    CHECK(refusal_of("mapped", cache_policy::drop_behind) == wants_none);
    CHECK(refusal_of("direct", cache_policy::cached) ==
          "the cache policy wants the pages in the cache");
    if (!on.direct)
      CHECK(refusal_of("auto", cache_policy::direct) ==
            "the filesystem has no O_DIRECT for this file");
    REQUIRE(w.engine().set_knob("sluice.send.path", "splice").has_value());
    sluice::send_options options = range(0, 10);
    options.cache = cache_policy::drop_behind;
    const sent s = send_range(w, options, take_all);
    REQUIRE(!s.outcome.has_value());
    CHECK(std::string(s.outcome.error().where) ==
          "a page on its way to the peer cannot be dropped");
  }
}
