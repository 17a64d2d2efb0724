// Taking the body of an upload into its file.
#pragma once

#include <cerrno>

#include "exchange.hpp"
#include "sluice/body_check.hpp"
#include "sluice/file.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"
#include "sluice/transfer.hpp"

namespace sluiced {

// The error of a chunked body over sluice.http.body_max_bytes. Not EFBIG: a filesystem says that.
inline constexpr int body_too_large = EMSGSIZE;

// Both take the whole body, whose first bytes may be in the window already, and set where it
// stands: a body that was refused by `check`, which may be null, when all of it was there is taken
// like one that was not. `progress` tells what was moved, after a failure too. Errors: as
// receive_to_file, and EBADMSG for a chunked coding that is broken, body_too_large.
[[nodiscard]] sluice::task<sluice::result<void>> receive_sized(exchange& x, sluice::file& into,
                                                               sluice::body_check* check,
                                                               sluice::receipt& progress);
[[nodiscard]] sluice::task<sluice::result<void>> receive_chunked(exchange& x, sluice::file& into,
                                                                 sluice::body_check* check,
                                                                 sluice::receipt& progress);

}  // namespace sluiced
