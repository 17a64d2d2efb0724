#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace sluice::base {

void broken(const char* what) noexcept {
  std::fprintf(stderr, "sluice: %s\n", what);
  std::abort();
}

}  // namespace sluice::base
