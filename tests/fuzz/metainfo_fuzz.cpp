// Any bytes as a .torrent file: refused, or a torrent whose promises hold.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "bencode.hpp"
#include "metainfo.hpp"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

// Every value reached by walking; each view lies within the input.
void walk(const bt::bencode& document, std::string_view input) {
  std::uint64_t members = 0;
  const bt::bencode_value root = document.root();
  require(root.raw() == input);
  for (auto at = root.first(); at; at = bt::bencode_value::next(*at, root)) {
    require(at->raw().data() >= input.data() &&
            at->raw().data() + at->raw().size() <= input.data() + input.size());
    ++members;
  }
  require(root.kind() != bt::bencode_kind::dictionary || members % 2 == 0);
}

void check(const bt::metainfo& of) {
  const bt::layout where = of.layout();
  require(where.pieces() == of.pieces.size() && !of.files.empty());
  bool pads = false;
  for (const bt::metainfo_file& file : of.files) {
    const std::string_view path = file.path;
    if (file.pad) {
      require(path.empty());
      pads = true;
      continue;
    }
    require(!path.empty() && path.front() != '/' && path.back() != '/');
    require(!path.contains("//") && !path.contains('\0') &&
            !("/" + file.path + "/").contains("/../"));
  }
  if (pads) return;  // which are never written
  const std::string written =
      bt::write_metainfo(of, of.files.size() == 1 && of.files[0].path == of.name);
  const auto again = bt::parse_metainfo(written);
  require(again && again->pieces == of.pieces && again->files.size() == of.files.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  const std::string_view input(reinterpret_cast<const char*>(data), bytes);
  const auto document = bt::bencode::parse(input);
  if (document) walk(*document, input);
  const auto parsed = bt::parse_metainfo(input);
  require(document || !parsed);
  if (parsed) check(*parsed);
  return 0;
}
