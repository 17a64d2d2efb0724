#include "storage/filesystems.hpp"

#include <doctest/doctest.h>
#include <linux/magic.h>

namespace {

using sluice::filesystems;
using sluice::kernel::filesystem_kind;
using sluice::kernel::inode_info;

inode_info inode_on(std::uint64_t mount, std::uint64_t device = 7) {
  inode_info made;
  made.mount = mount;
  made.device = device;
  return made;
}

}  // namespace

TEST_CASE("a filesystem is known for all files of its mount once it was learned") {
  filesystems known;
  CHECK_FALSE(known.find(inode_on(1)).has_value());
  known.learn(inode_on(1), {EXT4_SUPER_MAGIC});
  inode_info other_file = inode_on(1);
  other_file.inode = 5;
  REQUIRE(known.find(other_file).has_value());
  CHECK(known.find(other_file)->answers_at_once());
}

TEST_CASE("another mount, another device and other attributes are another filesystem") {
  filesystems known;
  known.learn(inode_on(1), {TMPFS_MAGIC});
  CHECK_FALSE(known.find(inode_on(2)).has_value());
  CHECK_FALSE(known.find(inode_on(1, 8)).has_value());
  inode_info later = inode_on(1);  // a number used again
  later.attributes = 1;
  CHECK_FALSE(known.find(later).has_value());
  known.learn(later, {FUSE_SUPER_MAGIC});
  CHECK_FALSE(known.find(later)->answers_at_once());
  CHECK(known.find(inode_on(1))->answers_at_once());
}

TEST_CASE("what could not be asked is not known, and of too many the oldest is forgotten") {
  filesystems known;
  known.learn(inode_on(1), {});
  CHECK_FALSE(known.find(inode_on(1)).has_value());
  for (std::uint64_t mount = 1; mount <= 200; ++mount)
    known.learn(inode_on(mount), {EXT4_SUPER_MAGIC});
  CHECK_FALSE(known.find(inode_on(1)).has_value());
  CHECK(known.find(inode_on(200)).has_value());
  CHECK(known.find(inode_on(100)).has_value());
}
