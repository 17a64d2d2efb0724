// What the tests on a filesystem that fails on order share: one mounted for the life of a child,
// and uploads to it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "faults/child.hpp"
#include "support/fault_fs.hpp"

namespace faults {

// Runs body(disk) in a child of its own that sees a filesystem failing on order.
inline void on_fault_fs(support::fault_fs_options options,
                        const std::function<void(support::fault_fs&)>& body) {
  const std::unique_ptr<support::temp_dir> parent =
      conformance::temp_dir_in(std::filesystem::current_path().string());
  in_child([&] {
    mounts_of_its_own();
    if (!support::fault_fs::is_possible()) throw cannot_show{"no /dev/fuse"};
    support::fault_fs disk(parent->path(), options);
    body(disk);
  });
}

// One way to carry an upload.
struct way {
  std::string backend;
  std::string path;         // sluice.receive.path
  std::string preallocate;  // sluice.storage.preallocate
  bool shares = false;      // publishes in the committer's lanes, or solo
};

inline std::string name(const way& w) {
  return w.backend + ", " + w.path + ", preallocate " + w.preallocate +
         (w.shares ? ", in lanes" : ", solo");
}

inline std::vector<way> every_way(const std::vector<std::string>& paths = {"copy", "direct"}) {
  std::vector<way> all;
  for (const std::string& backend : support::backends()) {
    for (const std::string& path : paths) {
      for (const char* preallocate : {"on", "off"}) {
        for (const bool shares : {false, true}) all.push_back({backend, path, preallocate, shares});
      }
    }
  }
  return all;
}

inline constexpr std::uint64_t block_bytes = 64 * 1024;
inline constexpr std::uint64_t upload_bytes = 8 * block_bytes + 321;

// An engine whose uploads go to the disk that fails, with everything checked at its end.
class disk_world : public conformance::world {
 public:
  disk_world(support::fault_fs& disk, const way& w, const char* on_failure = "fail_file")
      : world(conformance::setting{name(w), w.backend, disk.mount_point(), true, ""},
              {{"sluice.memory.block_bytes", "64K"},
               {"sluice.receive.path", w.path},
               {"sluice.storage.preallocate", w.preallocate},
               {"sluice.commit.on_failure", on_failure},
               {"sluice.commit.solo_max", w.shares ? "0" : "1"}}),
        disk_(disk) {}

  // Sends seeded bytes to a created file and publishes it durably as "body".
  conformance::uploaded upload(std::uint64_t seed,
                               sluice::cache_policy cache = sluice::cache_policy::automatic) {
    const std::vector<std::byte> sent = support::pattern(seed, 0, upload_bytes);
    conformance::stream_pair ends = conformance::stream_pair::tcp();
    conformance::peer sender(ends.take_theirs(),
                             [&sent](int fd) { conformance::send_all(fd, sent); });
    conformance::upload_request request{folder().path(), "body", {}};
    request.body.length = upload_bytes;
    request.body.cache = cache;
    request.wanted = sluice::durability::durable;
    conformance::uploaded u = run(conformance::receive_upload(
        engine(), conformance::adopt(engine(), ends.take_ours()), request));
    settle();
    return u;
  }

  [[nodiscard]] bool body_is_whole(std::uint64_t seed) const {
    return conformance::same_bytes(conformance::content_of(at("body")),
                                   support::pattern(seed, 0, upload_bytes));
  }
  // Neither a published name nor a temporary one, asked of the mount and of what lies behind it.
  [[nodiscard]] bool nothing_is_left() const {
    return names().empty() &&
           std::filesystem::is_empty(disk_.backing() / folder().path().filename());
  }
  // Removes the published file, so that the next upload begins as the first one did.
  void clear() const { std::filesystem::remove(at("body")); }

 private:
  support::fault_fs& disk_;
};

}  // namespace faults
