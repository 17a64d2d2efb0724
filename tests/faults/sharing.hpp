// Tests in a child of their own that sees a filesystem which shares blocks between files.
#pragma once

#include <string>
#include <vector>

#include "conformance/suite.hpp"
#include "faults/child.hpp"

namespace faults {

// Runs body(settings) with each backend on it.
template <class Body>
void on_sharing(const std::string& filesystem, Body body) {
  const std::unique_ptr<support::temp_dir> parent =
      conformance::temp_dir_in(std::filesystem::current_path().string());
  const std::string root = parent->at("disk");
  REQUIRE(std::filesystem::create_directory(root));
  in_child([&] {
    mount_sharing(root, filesystem);
    std::vector<conformance::setting> all;
    for (const std::string& backend : support::backends()) {
      all.push_back({.name = backend + ", " + filesystem,
                     .backend = backend,
                     .folder = root,
                     .direct = conformance::takes_direct(root),
                     .hidden = "",
                     .shares = true,
                     .maps = filesystem != "btrfs"});
    }
    body(conformance::kept(std::move(all)));
  });
}

}  // namespace faults
