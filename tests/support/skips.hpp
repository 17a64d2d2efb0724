// What a test program could not show on this machine. Tests say the reason on a line that begins
// with "skip: ", which tools/test repeats.
#pragma once

namespace support {

struct skip_count {
  int shown = 0;
  int skipped = 0;
};
inline skip_count skips;

inline void note_shown() { ++skips.shown; }
inline void note_skipped() { ++skips.skipped; }
inline bool only_skipped() { return skips.skipped > 0 && skips.shown == 0; }

}  // namespace support
