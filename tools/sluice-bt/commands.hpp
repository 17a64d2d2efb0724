// The commands of the program. Each returns its exit status: 0 done, 1 the machine or the peers
// refuse, 2 the command line is wrong. Messages go to stderr.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bt {

struct command_line {
  std::string torrent;
  std::string directory;
  std::string path;
  std::string listen;
  std::vector<std::string> peers;
  std::vector<std::string> settings;  // knob=value
  std::string cache = "cached";       // or direct: where what is given out is read from
  unsigned give_up_seconds = 60;
  unsigned answer_seconds = 30;
  unsigned keep_alive_seconds = 90;
  std::uint64_t piece_bytes = 1 << 20;
};

int transfer(const command_line& given, bool fetch);
int make_torrent(const command_line& given);

// As many descriptors as the machine allows, and how many these are.
std::uint64_t raise_descriptor_limit();

// A line on stderr with the program's name before it.
void say(const std::string& text);

}  // namespace bt
