// Whether receives in bundles work on this kernel.
#pragma once

#include <string>

namespace sluice::kernel {

// Sends a known pattern over loopback into a ring of small provided buffers, so that bundles begin
// at every place of it and reach over its end. Empty when all came, in order; else why bundles are
// not to be used (kernel-notes/recv_multishot_ends_without_buffers.md). Takes about a millisecond;
// any thread.
[[nodiscard]] std::string try_bundles();

}  // namespace sluice::kernel
