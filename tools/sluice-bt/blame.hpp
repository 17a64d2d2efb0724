// Who sent what proved wrong, whatever connection it came by, and is talked to no more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "picker.hpp"
#include "sha1.hpp"

namespace bt {

class blame {
 public:
  // `origin`: whom the connection is with, that is the address called, or a caller's without the
  // port.
  void connected(source_id id, std::string origin) { origins_[id] = std::move(origin); }
  // One that has ended. What it has sent may be found wrong later: only for one that sent nothing.
  void forget(source_id id) { origins_.erase(id); }

  // Why nobody is to talk to it; none while there is no reason.
  [[nodiscard]] const std::string* ban_of(const std::string& origin) const;
  [[nodiscard]] const std::string* ban_of(source_id id) const;
  // From now on, with all connections of its origin. An earlier reason stays.
  void ban(source_id id, std::string why);

  // Of a piece that came wrong: who sent each block, and the digest of what that was. Kept until it
  // has come right, when what differs is known. With too many of them the oldest is forgotten.
  void remember(std::uint32_t piece, std::vector<source_id> senders, std::vector<sha1_digest> sent);
  [[nodiscard]] bool remembers(std::uint32_t piece) const;
  // Who had sent other blocks than those of the digests; each once. Forgets the piece.
  [[nodiscard]] std::vector<source_id> compare(std::uint32_t piece,
                                               std::span<const sha1_digest> right);

  static constexpr std::size_t blocks_max = 1 << 16;  // remembered; 1.5 MiB

 private:
  struct attempt {
    std::uint32_t piece = 0;
    std::vector<source_id> senders;
    std::vector<sha1_digest> sent;
  };

  std::map<source_id, std::string> origins_;
  std::map<std::string, std::string> bans_;  // by origin: why
  std::vector<attempt> attempts_;            // the oldest first
  std::size_t blocks_ = 0;                   // of all of them
};

}  // namespace bt
