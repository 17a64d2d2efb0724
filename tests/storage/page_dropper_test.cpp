#include "storage/page_dropper.hpp"

#include "conformance/suite.hpp"
#include "core/this_scope.hpp"
#include "support/cached_pages.hpp"
#include "support/dies.hpp"

namespace {

using namespace conformance;

constexpr std::uint64_t mib = 1 << 20;

sluice::file adopted(world& w, std::uint64_t bytes) {
  make_file(w.at("file"), pattern(1, 0, bytes));
  const int fd = ::open(w.at("file").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

sluice::task<int> drop_all(sluice::file& of, std::uint64_t offset, std::uint64_t bytes,
                           sluice::page_state pages) {
  sluice::page_dropper dropper(of.state(), offset, pages, co_await sluice::this_scope{});
  for (std::uint64_t done = 0; done < bytes; done += mib / 4) dropper.passed(offset + done);
  co_return co_await dropper.finished(offset + bytes);
}

}  // namespace

TEST_CASE("dirty pages behind the cursor are written back and dropped, those before it stay") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.storage.drop_bytes", "1M"}});
    sluice::file file = adopted(w, 8 * mib);
    if (!support::can_drop_pages(on.folder)) continue;
    CHECK(w.run(drop_all(file, 0, 4 * mib + 100, sluice::page_state::dirty)) == 0);
    CHECK(support::cached_bytes(file.fd(), 0, 4 * mib) == 0);
    CHECK(support::cached_bytes(file.fd(), 6 * mib, 2 * mib) == 2 * mib);
    CHECK(w.counter("sluice.cache.dropped_bytes") >= 4 * mib);
    CHECK(same_bytes(content_of(w.at("file")), pattern(1, 0, 8 * mib)));
  }
}

TEST_CASE("pages that were only read are dropped, dirty ones of others stay") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.storage.drop_bytes", "1M"}});
    sluice::file file = adopted(w, 4 * mib);
    if (!support::can_drop_pages(on.folder)) continue;
    REQUIRE(::fsync(file.fd()) == 0);
    CHECK(w.run(drop_all(file, 0, 4 * mib, sluice::page_state::clean)) == 0);
    CHECK(support::cached_bytes(file.fd(), 0, 4 * mib) == 0);
  }
}

TEST_CASE("no call drops more than four times what is dropped at a time: a cancel waits for it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.storage.drop_bytes", "64K"}});
    sluice::file file = adopted(w, 4 * mib);
    CHECK(w.run(drop_all(file, 0, 4 * mib, sluice::page_state::dirty)) == 0);
    CHECK(w.counter("sluice.cache.drops") >= 16);
    CHECK(w.counter("sluice.cache.dropped_bytes") == 4 * mib);
  }
}

TEST_CASE("who is cancelled drops nothing more, and ends") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.storage.drop_bytes", "64K"}});
    sluice::file file = adopted(w, 4 * mib);
    std::optional<int> told;
    const sluice::task_handle handle = w.engine().start(
        drop_all(file, 0, 4 * mib, sluice::page_state::dirty), [&told](int r) { told = r; });
    w.engine().cancel(handle);
    w.until([&told] { return told.has_value(); });
    CHECK(*told == 0);
    CHECK(w.counter("sluice.cache.drops") <= 1);
  }
}
