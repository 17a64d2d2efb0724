// .torrent files on the disk.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "metainfo.hpp"

namespace bt {

// The errors are sentences that name the file.
[[nodiscard]] std::expected<metainfo, std::string> read_torrent(const std::string& path);

// The metainfo of a file, or of a directory with all regular files beneath it in the order of their
// paths; links are not followed, other kinds of files are refused, and so many pieces that
// read_torrent would refuse them. Hashes on all CPUs.
[[nodiscard]] std::expected<std::string, std::string> describe_path(const std::string& path,
                                                                    std::uint64_t piece_bytes);

}  // namespace bt
