// What a .torrent file says (BEP 3, version 1).
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "layout.hpp"
#include "sha1.hpp"

namespace bt {

struct metainfo_file {
  // Relative, with '/' between its components; of a torrent of several files the first one is the
  // torrent's name. No component is empty, ".", ".." or has a '/' or a control character.
  std::string path;
  std::uint64_t bytes = 0;
  // Zeroes that align the next file (BEP 47): nothing on the disk, and the path is empty.
  bool pad = false;
};

struct metainfo {
  std::string name;
  std::uint64_t piece_bytes = 0;
  std::vector<metainfo_file> files;  // in the torrent's order
  std::vector<sha1_digest> pieces;   // as many as the files have pieces
  sha1_digest info_hash{};
  [[nodiscard]] bt::layout layout() const;
};

inline constexpr std::uint64_t metainfo_bytes_max = 64 << 20;  // of a .torrent file
inline constexpr std::uint64_t piece_bytes_max = 256 << 20;

// The error is a sentence for people. Refused: what is no strict bencode, paths that lead out or
// meet each other, a count of pieces that does not fit the files, and what needs version 2.
[[nodiscard]] std::expected<metainfo, std::string> parse_metainfo(std::string_view input);

// The file's bytes for what is given; info_hash is not looked at. `single`: the torrent is one
// file, whose path is the name.
[[nodiscard]] std::string write_metainfo(const metainfo& of, bool single);

// Why a name cannot be a component of a path; null when it can.
[[nodiscard]] const char* refuse_component(std::string_view component);

}  // namespace bt
