// Digests kept with a file, in its extended attribute user.sluice.repr-digest:
//   of="1388-18a9c3b2d4e5f607", sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:
// `of` are size and time of the last change of the file when they were true, in hexadecimal, bytes
// and nanoseconds: whoever changes the file later makes them void.
#pragma once

#include <span>
#include <vector>

#include "digest.hpp"
#include "sluice/file.hpp"

namespace sluiced {

// Both may wait for the disk; any thread.

// What looks like `info` now has these digests. Nothing is kept on a filesystem without extended
// attributes, or without room for one: a digest that is not there is not told, that is all.
void store_digests(int fd, const sluice::file_info& info, std::span<const digest> verified);

// Those that are kept and still true of a file that looks like `info`.
[[nodiscard]] std::vector<digest> stored_digests(int fd, const sluice::file_info& info);

}  // namespace sluiced
