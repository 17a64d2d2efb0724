// Who sent what proved wrong, whatever connection it came by, and is talked to no more.
#pragma once

#include <map>
#include <string>

#include "picker.hpp"

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

 private:
  std::map<source_id, std::string> origins_;
  std::map<std::string, std::string> bans_;  // by origin: why
};

}  // namespace bt
