#include "storage/new_directories.hpp"

#include <doctest/doctest.h>

namespace {

using sluice::new_directories;
using making = new_directories::making;

sluice::kernel::inode_info directory(std::uint64_t device, std::uint64_t inode) {
  sluice::kernel::inode_info made;
  made.device = device;
  made.inode = inode;
  return made;
}

const auto parent = directory(1, 7);
const auto other = directory(2, 7);

}  // namespace

TEST_CASE("a directory is new until a sync that began after it was made says yes") {
  new_directories all;
  CHECK_FALSE(all.any());
  CHECK_FALSE(all.unsynced_in(parent).has_value());
  all.begin(parent);
  CHECK(all.any());
  CHECK(all.unsynced_in(parent).has_value());
  all.end(parent, making::perhaps_made);
  CHECK_FALSE(all.unsynced_in(other).has_value());
  const auto begun = all.unsynced_in(parent);
  REQUIRE(begun.has_value());
  all.synced(other, *begun);
  CHECK(all.any());
  all.synced(parent, *begun);
  CHECK_FALSE(all.any());
}

TEST_CASE("a sync does not cover what is still being made, nor what was made after it began") {
  new_directories all;
  all.begin(parent);
  all.begin(parent);
  all.end(parent, making::perhaps_made);
  const auto early = all.unsynced_in(parent);
  all.synced(parent, *early);
  CHECK(all.any());
  all.end(parent, making::perhaps_made);
  all.synced(parent, *early);
  CHECK(all.any());
  all.synced(parent, *all.unsynced_in(parent));
  CHECK_FALSE(all.any());
  all.synced(parent, *early);  // late, and of no consequence
  CHECK_FALSE(all.any());
}

TEST_CASE("one that was refused leaves nothing behind, and what was made beside it stays") {
  new_directories all;
  all.begin(parent);
  all.end(parent, making::refused);
  CHECK_FALSE(all.any());
  all.begin(parent);
  all.begin(parent);
  all.end(parent, making::refused);
  CHECK(all.any());
  all.end(parent, making::perhaps_made);
  CHECK(all.unsynced_in(parent).has_value());
  all.begin(parent);
  all.end(parent, making::refused);
  CHECK(all.any());
  all.synced(parent, *all.unsynced_in(parent));
  CHECK_FALSE(all.any());
}

TEST_CASE("what was refused while another is being made leaves it to that one") {
  new_directories all;
  all.begin(parent);
  all.begin(parent);
  all.end(parent, making::refused);
  all.end(parent, making::refused);
  CHECK_FALSE(all.any());
}
