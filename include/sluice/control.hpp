// A control socket: shows and sets the knobs of a live process, and shows its counters, to its own
// user and to root. The requests and answers are text that socat(1) can speak; sluicectl does too.
//
//   get NAME          NAME = VALUE
//   set NAME VALUE    NAME = VALUE, as it now holds
//   list              NAME = VALUE, a line for every knob
//   stats             NAME = VALUE, a line for every counter
//   probe             backend = ring|pool: WHY, then for every capability NAME = yes, or no: REASON
//   clear-suspects    cleared = N: so many filesystems on which a sync had failed; publishing there
//                     is allowed again
//
// A request is one line, an answer is lines and then an empty one. `error: ...` is the line of a
// request that was refused; it changed nothing.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/api.hpp"
#include "sluice/counters.hpp"
#include "sluice/engine.hpp"
#include "sluice/knobs.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

// What the socket asks of its process. Called on the thread of the engine that carries it, between
// two completions: must not wait, nor throw. With several engines `set` applies a value to each
// (engine::post) and `counters` adds them up. An empty function is a request that is not offered.
struct control_functions {
  std::function<const knobs&()> settings;
  std::function<result<void>(std::string_view name, std::string_view value)> set;
  std::function<std::vector<counter_value>()> counters;
  std::function<std::vector<capability>()> capabilities;
  std::function<std::string_view()> backend;    // engine::backend_name
  std::function<std::size_t()> clear_suspects;  // engine::clear_suspects
};

// The functions of a process with one engine. `on` may be moved, and must outlive what they are
// given to.
[[nodiscard]] SLUICE_API control_functions control_of(engine& on);

// The answer to one request line (without its end of line), the empty line included: for those who
// carry requests in their own way. At most a few KiB. The thread is that of `functions`.
[[nodiscard]] SLUICE_API std::string control_answer(const control_functions& functions,
                                                    std::string_view request);

struct control_options {
  std::size_t clients_max = 16;  // at once; one more is told so and closed
  std::chrono::nanoseconds idle_timeout = std::chrono::minutes(5);   // between two requests
  std::chrono::nanoseconds line_timeout = std::chrono::seconds(10);  // from a line's first byte to
                                                                     // its last; and for an answer
};

// Bytes of a request with its end of line: the longest name and text value, and room to spare.
inline constexpr std::size_t control_line_bytes_max = 2048;

class control_socket;

// Answers until its task is cancelled: engine.spawn(serve(std::move(*control))). Peers of another
// user are refused by SO_PEERCRED. When it ends the name is gone and every client is closed.
SLUICE_API task<void> serve(control_socket control);

// The socket, listening from open() on. Move-only; the destructor closes it and removes its name.
// Loop thread only.
class SLUICE_API control_socket {
 public:
  // Makes an AF_UNIX stream socket at `path`, of mode 0600 from the first moment. One that a dead
  // process left is replaced. Errors: EADDRINUSE (somebody listens there), EEXIST (there is
  // something else), ENAMETOOLONG (above 100 bytes), EACCES, ENOENT and what else bind(2) says.
  static result<control_socket> open(engine& on, const std::string& path,
                                     control_functions functions,
                                     const control_options& options = {});
  control_socket(control_socket&&) noexcept;
  control_socket& operator=(control_socket&&) noexcept;
  ~control_socket();

 private:
  friend task<void> serve(control_socket control);
  struct state;
  explicit control_socket(std::unique_ptr<state> made);
  std::unique_ptr<state> state_;
};

}  // namespace sluice
