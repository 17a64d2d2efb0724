#include "metainfo.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "bencode.hpp"

namespace bt {

namespace {

constexpr std::uint64_t total_bytes_max = std::uint64_t{1} << 62U;
constexpr std::size_t component_bytes_max = 255;
constexpr std::size_t path_bytes_max = 3000;  // with a directory before it still below PATH_MAX

using refused = std::unexpected<std::string>;

std::expected<std::uint64_t, std::string> length_of(const bencode_value& in) {
  const auto length = in.find("length");
  if (!length || !length->integer()) return refused("a file has no length");
  if (*length->integer() < 0) return refused("a file has a negative length");
  return static_cast<std::uint64_t>(*length->integer());
}

std::expected<std::string, std::string> checked_component(std::string_view component) {
  const char* problem = refuse_component(component);
  if (problem != nullptr) return refused(fmt::format("a file's name {}", problem));
  return std::string(component);
}

std::expected<metainfo_file, std::string> parse_file(const bencode_value& entry,
                                                     const std::string& top) {
  const auto length = length_of(entry);
  if (!length) return refused(length.error());
  const auto attributes = entry.find("attr");
  if (attributes && attributes->text() && attributes->text()->contains('l'))
    return refused("it has a symbolic link, which sluice-bt does not make");
  if (attributes && attributes->text() && attributes->text()->contains('p'))
    return metainfo_file{{}, *length, true};
  metainfo_file file{top, *length};
  const auto path = entry.find("path");
  if (!path || path->kind() != bencode_kind::list || !path->first())
    return refused("a file has no path");
  for (auto part = path->first(); part; part = bencode_value::next(*part, *path)) {
    if (!part->text()) return refused("a file's path is not text");
    const auto component = checked_component(*part->text());
    if (!component) return refused(component.error());
    file.path.append("/").append(*component);
    if (file.path.size() > path_bytes_max) return refused("a file's path is too long");
  }
  return file;
}

std::expected<std::vector<metainfo_file>, std::string> parse_files(const bencode_value& info,
                                                                   const std::string& name) {
  std::vector<metainfo_file> files;
  const auto list = info.find("files");
  if (!list) {
    const auto length = length_of(info);
    if (!length) return refused("it has neither a length nor files");
    files.push_back({name, *length});
    return files;
  }
  if (info.find("length")) return refused("it has both a length and files");
  if (list->kind() != bencode_kind::list) return refused("its files are no list");
  for (auto entry = list->first(); entry; entry = bencode_value::next(*entry, *list)) {
    auto file = parse_file(*entry, name);
    if (!file) return refused(file.error());
    files.push_back(std::move(*file));
  }
  return files;
}

// Two files of one name, or a file where another needs a directory.
bool meet(const std::vector<metainfo_file>& files) {
  std::vector<std::string> paths;
  paths.reserve(files.size());
  // With its end a path sorts right before what lies beneath it: '/' is the lowest here.
  for (const metainfo_file& file : files) {
    if (!file.pad) paths.push_back(file.path + "/");
  }
  const auto below = [](char a, char b) {
    const auto rank = [](char c) { return c == '/' ? 0 : 1 + static_cast<unsigned char>(c); };
    return rank(a) < rank(b);
  };
  std::ranges::sort(paths, [&](const std::string& a, const std::string& b) {
    return std::ranges::lexicographical_compare(a, b, below);
  });
  return std::ranges::adjacent_find(paths, [](const std::string& a, const std::string& b) {
           return b.starts_with(a);
         }) != paths.end();
}

std::optional<std::uint64_t> sum_of(const std::vector<metainfo_file>& files) {
  std::uint64_t sum = 0;
  for (const metainfo_file& file : files) {
    if (file.bytes > total_bytes_max - sum) return std::nullopt;
    sum += file.bytes;
  }
  return sum;
}

std::expected<void, std::string> take_pieces(const bencode_value& info, metainfo& into) {
  const auto length = info.find("piece length");
  if (!length || !length->integer() || *length->integer() <= 0)
    return refused("it has no piece length");
  into.piece_bytes = static_cast<std::uint64_t>(*length->integer());
  if (into.piece_bytes > piece_bytes_max) return refused("its pieces are longer than 256 MiB");
  const auto pieces = info.find("pieces");
  if (!pieces || !pieces->text())
    return refused(info.find("file tree") ? "it is of version 2 only, which sluice-bt cannot read"
                                          : "it has no pieces");
  const auto total = sum_of(into.files);
  if (!total) return refused("its files are too long");
  if (*total == 0) return refused("it has no content");
  const std::string_view digests = *pieces->text();
  constexpr std::size_t each = sizeof(sha1_digest);
  const std::uint64_t expected = (*total + into.piece_bytes - 1) / into.piece_bytes;
  if (digests.size() % each != 0 || digests.size() / each != expected)
    return refused(
        fmt::format("it has {} bytes of digests for {} pieces", digests.size(), expected));
  into.pieces.resize(digests.size() / each);
  std::memcpy(into.pieces.data(), digests.data(), digests.size());
  return {};
}

}  // namespace

const char* refuse_component(std::string_view component) {
  if (component.empty()) return "is empty";
  if (component == "." || component == "..") return "leads out of its place";
  if (component.size() > component_bytes_max) return "is too long";
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (component.contains('/')) return "has a '/' in it";
  if (std::ranges::any_of(component, control)) return "has a control character in it";
  return nullptr;
}

layout metainfo::layout() const {
  std::vector<std::uint64_t> bytes;
  bytes.reserve(files.size());
  for (const metainfo_file& file : files) bytes.push_back(file.bytes);
  return {piece_bytes, bytes};
}

std::expected<metainfo, std::string> parse_metainfo(std::string_view input) {
  const auto document = bencode::parse(input);
  if (!document)
    return refused(
        fmt::format("no bencode: {} at byte {}", document.error().what, document.error().at));
  const auto info = document->root().find("info");
  if (!info || info->kind() != bencode_kind::dictionary) return refused("it has no info");
  const auto name = info->find("name");
  if (!name || !name->text()) return refused("it has no name");
  const auto checked = checked_component(*name->text());
  if (!checked) return refused(checked.error());
  metainfo made;
  made.name = *checked;
  auto files = parse_files(*info, made.name);
  if (!files) return refused(files.error());
  made.files = std::move(*files);
  if (made.files.empty()) return refused("it has no files");
  if (meet(made.files)) return refused("two of its files have the same path");
  const auto pieces = take_pieces(*info, made);
  if (!pieces) return refused(pieces.error());
  made.info_hash = sha1_of(std::as_bytes(std::span(info->raw())));
  return made;
}

std::string write_metainfo(const metainfo& of, bool single) {
  std::string info = "d";
  if (single) {
    append_text(info, "length");
    append_integer(info, static_cast<std::int64_t>(of.files.front().bytes));
  } else {
    append_text(info, "files");
    info.append("l");
    for (const metainfo_file& file : of.files) {
      info.append("d");
      append_text(info, "length");
      append_integer(info, static_cast<std::int64_t>(file.bytes));
      append_text(info, "path");
      info.append("l");
      std::string_view rest = std::string_view(file.path).substr(of.name.size());
      while (!rest.empty()) {
        rest.remove_prefix(1);  // the '/'
        const std::string_view component = rest.substr(0, rest.find('/'));
        append_text(info, component);
        rest.remove_prefix(component.size());
      }
      info.append("ee");
    }
    info.append("e");
  }
  append_text(info, "name");
  append_text(info, of.name);
  append_text(info, "piece length");
  append_integer(info, static_cast<std::int64_t>(of.piece_bytes));
  append_text(info, "pieces");
  const auto* digests = reinterpret_cast<const char*>(of.pieces.data());
  append_text(info, {digests, of.pieces.size() * sizeof(sha1_digest)});
  info.append("e");
  std::string all = "d";
  append_text(all, "created by");
  append_text(all, "sluice-bt");
  append_text(all, "info");
  all.append(info).append("e");
  return all;
}

}  // namespace bt
