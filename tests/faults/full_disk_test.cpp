// A disk, or a quota, that is full: the error is ENOSPC or EDQUOT, the space comes back, and the
// next upload works.
#include <sys/statvfs.h>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "faults/child.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace conformance;

constexpr std::uint64_t mib = 1 << 20;

// What was removed is free when the journal, or the transaction of btrfs, has been committed.
void sync_all_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(::syncfs(fd) == 0);
  ::close(fd);
}

std::uint64_t free_bytes(const std::string& path) {
  sync_all_of(path);
  struct statvfs info{};
  REQUIRE(::statvfs(path.c_str(), &info) == 0);
  return std::uint64_t{info.f_bfree} * info.f_frsize;
}

uploaded upload(world& w, std::uint64_t length, const std::string& name) {
  const std::vector<std::byte> sent = pattern(length, 0, length);
  stream_pair ends = stream_pair::tcp();
  peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
  upload_request request{w.folder().path(), name, {}};
  request.body.length = length;
  uploaded u = w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
  w.settle();
  if (u.outcome) CHECK(same_bytes(content_of(w.at(name)), sent));
  return u;
}

sluice::task<int> write_spans(sluice::engine& e, std::filesystem::path folder, int blocks) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->create();
  if (!into) co_return into.error().code;
  sluice::span_writer writer(e, *into);
  for (int i = 0; i < blocks; ++i) {
    sluice::lease_await leasing = e.acquire_block();
    sluice::result<sluice::lease> block = co_await leasing;
    std::memset(block->data(), 1, block->size());
    const iovec all{block->data(), block->size()};
    const sluice::result<void> begun = co_await writer.write(std::move(*block), {&all, 1});
    if (!begun) break;
  }
  const sluice::result<sluice::receipt> done = co_await writer.finish();
  co_return done ? 0 : done.error().code;
}

sluice::task<int> reserve(sluice::engine& e, std::filesystem::path folder, std::uint64_t bytes) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->create();
  if (!into) co_return into.error().code;
  const sluice::result<void> reserved = co_await into->reserve(bytes);
  co_return reserved ? 0 : reserved.error().code;
}

enum class disk { tmpfs, ext4 };

void fill(world& w, const std::string& root) {
  const std::uint64_t before = free_bytes(root);
  for (int round = 0; round < 3; ++round) {
    const uploaded u = upload(w, 12 * mib + 5, "big");
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == ENOSPC);
    CHECK(w.names().empty());
    // By turns of the loop: a request of the ring that has ended may hold the file until then.
    w.until([&] { return free_bytes(root) == before; });
  }
  // Spans are copied, or refused.
  const std::string path = *w.engine().settings().get("sluice.receive.path");
  const bool copied = path == "auto" || path == "copy";
  CHECK(w.run(write_spans(w.engine(), w.folder().path(), 50)) ==
        (copied ? ENOSPC : sluice::code::path_unavailable));
  w.settle();
  CHECK(w.run(reserve(w.engine(), w.folder().path(), 11 * mib)) == ENOSPC);
  w.settle();
  w.until([&] { return free_bytes(root) == before; });
  const uploaded u = upload(w, mib + 7, "small");
  CHECK(u.outcome.has_value());
  CHECK(u.published.has_value());
}

// A mount is slow to go away: one for all the ways to fill it.
void fill_in_every_way(disk kind) {
  const std::unique_ptr<support::temp_dir> parent =
      temp_dir_in(std::filesystem::current_path().string());
  const std::string root = parent->at("disk");
  REQUIRE(std::filesystem::create_directory(root));
  faults::in_child([&] {
    if (kind == disk::tmpfs) faults::mount_tmpfs(root, 4 * mib);
    if (kind == disk::ext4) faults::mount_ext4(root, 8 * mib);
    for (const std::string& backend : support::backends()) {
      CAPTURE(backend);
      for (const std::string preallocate : {"on", "off"}) {
        CAPTURE(preallocate);
        for (const std::string path : {"auto", "direct", "copy", "splice", "mapped"}) {
          CAPTURE(path);
          if (kind == disk::tmpfs && path == "direct") continue;
          const setting there{backend, backend, root, kind == disk::ext4, ""};
          world w(there,
                  {{"sluice.storage.preallocate", preallocate}, {"sluice.receive.path", path}});
          fill(w, root);
        }
      }
    }
  });
}

void exceed_quota(world& w, const std::string& root) {
  for (int round = 0; round < 2; ++round) {
    const uploaded u = upload(w, 24 * mib + 5, "big");
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == EDQUOT);
    CHECK(w.names().empty());
    sync_all_of(root);
  }
  CHECK(w.run(reserve(w.engine(), w.folder().path(), 24 * mib)) == EDQUOT);
  w.settle();
  sync_all_of(root);
  const uploaded u = upload(w, mib + 7, "small");
  CHECK(u.outcome.has_value());
  CHECK(u.published.has_value());
}

}  // namespace

TEST_CASE("a full tmpfs gives ENOSPC, its space back, and room for the next upload") {
  fill_in_every_way(disk::tmpfs);
}

TEST_CASE("a full ext4 gives ENOSPC, its space back, and room for the next upload") {
  fill_in_every_way(disk::ext4);
}

TEST_CASE("who exceeds a quota of btrfs gets EDQUOT, and room for the next upload") {
  const std::unique_ptr<support::temp_dir> parent =
      temp_dir_in(std::filesystem::current_path().string());
  const std::string root = parent->at("disk");
  REQUIRE(std::filesystem::create_directory(root));
  faults::in_child([&] {
    faults::mount_btrfs_with_quota(root, 16 * mib);
    for (const std::string& backend : support::backends()) {
      CAPTURE(backend);
      for (const std::string preallocate : {"on", "off"}) {
        CAPTURE(preallocate);
        for (const std::string path : {"direct", "copy", "splice"}) {
          CAPTURE(path);
          const setting there{backend, backend, root, true, ""};
          world w(there,
                  {{"sluice.storage.preallocate", preallocate}, {"sluice.receive.path", path}});
          exceed_quota(w, root);
        }
      }
    }
  });
}
