// All that an embedding program needs to show: the headers are found, the library links and runs.
#include <sluice/result.hpp>

#include <cstdio>

int main() {
  const sluice::error no_space{ENOSPC, "write", "embed"};
  std::puts(sluice::describe(no_space).c_str());
  return 0;
}
