// What the command line asked for, and where things are on this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bench {

enum class effort : std::uint8_t {
  full,
  quick,  // all cases within some eight minutes on two CPUs
  tiny,   // for the tool's own test: every line runs, no figure means anything
};

struct setup {
  std::vector<std::string> cases;
  effort how_much = effort::full;
  unsigned runs = 7;
  std::string directory;  // on a disk
  std::string tmpfs;      // empty: none here
  std::string retired;    // where measured files wait, emptied, for the end: see retire()
  std::vector<std::string> program_directories;
  std::string self;       // this program, for serve and sink
  std::string only;       // ways whose name contains it; the limit is measured all the same
  std::string json_file;  // empty: none
  // Of the case framed; empty: as much as `how_much` says.
  std::vector<std::uint64_t> payload_bytes;
  std::vector<unsigned> connections;
  std::vector<std::string> storages;  // as name(storage) says

  // A server or peer by its name.
  [[nodiscard]] std::optional<std::string> program(const std::string& name) const;
};

// Progress for whoever waits, on stderr.
void tell(const std::string& text);

}  // namespace bench
