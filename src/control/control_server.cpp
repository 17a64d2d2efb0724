// The control socket's I/O: one task accepts, one more for each client. Whatever a client does, it
// costs a fixed buffer, one answer and a bounded time.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/engine_core.hpp"
#include "core/waiter.hpp"
#include "kernel/unix_socket.hpp"
#include "sluice/control.hpp"
#include "sluice/stream.hpp"

namespace sluice {
namespace {

using clock = std::chrono::steady_clock;

constexpr int backlog = 16;
constexpr std::chrono::milliseconds accept_pause{100};
// How long a client that broke off is listened to, so that it can read why before the connection
// is reset by what it still sends.
constexpr std::chrono::seconds farewell{1};

}  // namespace

struct control_socket::state {
  state(engine_core& on, kernel::unix_listener made, control_functions given,
        const control_options& wanted)
      : core(on),
        listener(std::move(made)),
        functions(std::move(given)),
        options(wanted),
        user(::geteuid()),
        clients(wanted.clients_max),
        client_ended(on.loop()) {}

  void admit(stream peer);
  void cancel_clients();
  [[nodiscard]] bool some_client_is_open() const {
    return std::ranges::any_of(clients, &client::open);
  }

  struct client {
    bool open = false;
    task_handle task;
  };
  static task<void> live(state& s, client& self, stream peer);

  engine_core& core;
  kernel::unix_listener listener;
  const control_functions functions;
  const control_options options;
  const uid_t user;
  std::vector<client> clients;  // fixed in number
  waiter client_ended;
};

namespace {

// The bytes of one client that are not answered yet: complete lines, and the begin of another.
class line_buffer {
 public:
  [[nodiscard]] std::span<std::byte> room() {
    return std::as_writable_bytes(std::span(bytes_).subspan(used_));
  }
  void clear() { used_ = 0; }
  void add(std::size_t count) { used_ += count; }
  [[nodiscard]] bool empty() const { return used_ == 0; }
  [[nodiscard]] bool full() const { return used_ == bytes_.size(); }
  [[nodiscard]] bool has_line() const { return text().contains('\n'); }

  // Takes the first line off. Only after has_line().
  std::string take_line() {
    const std::size_t end = text().find('\n');
    std::string line(text().substr(0, end));
    if (line.ends_with('\r')) line.pop_back();
    used_ -= end + 1;
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(end) + 1, used_, bytes_.begin());
    return line;
  }

 private:
  [[nodiscard]] std::string_view text() const { return {bytes_.data(), used_}; }
  std::array<char, control_line_bytes_max> bytes_{};
  std::size_t used_ = 0;
};

// Returns when there is a line, or else with the reason why none will come: empty when the client
// has gone, or was idle for too long.
task<std::string_view> receive_line(stream& peer, line_buffer& lines,
                                    const control_options& options) {
  clock::time_point line_until = clock::now() + options.line_timeout;
  while (!lines.has_line()) {
    if (lines.full()) co_return "the line is too long";
    const bool idle = lines.empty();
    const std::chrono::nanoseconds left = idle ? options.idle_timeout : line_until - clock::now();
    if (left.count() <= 0) co_return "the line did not end in time";
    const result<std::size_t> received = co_await peer.recv(lines.room(), recv_mode::some, left);
    if (idle) line_until = clock::now() + options.line_timeout;
    if (!received && received.error().code == ETIMEDOUT && !idle) continue;
    if (!received) co_return "";
    // Half a request is none: `set` of a value that was cut off would set another.
    if (*received == 0) co_return idle ? "" : "the line did not end";
    lines.add(*received);
  }
  co_return "";
}

task<bool> send_text(stream& peer, std::string text, std::chrono::nanoseconds timeout) {
  const result<std::size_t> sent = co_await peer.send(std::as_bytes(std::span(text)), timeout);
  co_return sent.has_value();
}

task<void> say_farewell(stream& peer, std::string_view why) {
  std::string text = "error: ";
  text.append(why).append("\n\n");
  kernel::send_now(peer.fd(), text);
  if (!peer.shutdown(SHUT_WR)) co_return;
  std::array<std::byte, control_line_bytes_max> unheard;
  const clock::time_point until = clock::now() + farewell;
  for (;;) {
    const std::chrono::nanoseconds left = until - clock::now();
    if (left.count() <= 0) co_return;
    const result<std::size_t> ignored = co_await peer.recv(unheard, recv_mode::some, left);
    if (!ignored || *ignored == 0) co_return;
  }
}

task<void> converse(stream& peer, const control_functions& functions,
                    const control_options& options) {
  line_buffer lines;
  std::string_view why = co_await receive_line(peer, lines, options);
  while (lines.has_line()) {
    std::string answer = control_answer(functions, lines.take_line());
    const bool sent = co_await send_text(peer, std::move(answer), options.line_timeout);
    if (!sent) co_return;
    why = co_await receive_line(peer, lines, options);
  }
  if (!why.empty()) co_await say_farewell(peer, why);
}

task<bool> pause(engine_core& core) {
  op_request request;
  request.kind = op_kind::timeout;
  const result<std::size_t> rested = co_await op_await(core.loop(), request, accept_pause);
  co_return rested.has_value();
}

}  // namespace

task<void> control_socket::state::live(state& s, client& self, stream peer) {
  co_await converse(peer, s.functions, s.options);
  peer.close();
  self.open = false;
  s.client_ended.notify();
}

void control_socket::state::admit(stream peer) {
  const result<uid_t> who = kernel::peer_user(peer.fd());
  if (!who || (*who != user && *who != 0)) {
    kernel::send_now(peer.fd(),
                     "error: not permitted: this socket serves its own user and root\n\n");
    return;
  }
  const auto seat = std::ranges::find(clients, false, &client::open);
  if (seat == clients.end()) {
    kernel::send_now(peer.fd(), "error: too many clients, try again later\n\n");
    return;
  }
  seat->open = true;
  const task_handle begun = core.adopt(detail::carry(live(*this, *seat, std::move(peer)), [] {}));
  seat->task = begun;  // the name of an ended task by now, maybe: then it is ignored
}

void control_socket::state::cancel_clients() {
  for (const client& c : clients)
    if (c.open) core.cancel(c.task);
}

control_socket::control_socket(std::unique_ptr<state> made) : state_(std::move(made)) {}
control_socket::control_socket(control_socket&&) noexcept = default;
control_socket& control_socket::operator=(control_socket&&) noexcept = default;
control_socket::~control_socket() = default;

result<control_socket> control_socket::open(engine& on, const std::string& path,
                                            control_functions functions,
                                            const control_options& options) {
  engine_core& core = on.core();
  result<kernel::unix_listener> listener =
      kernel::unix_listener::open(path, core.carrier().socket_mode(), backlog);
  if (!listener) return std::unexpected(listener.error());
  return control_socket(
      std::make_unique<state>(core, std::move(*listener), std::move(functions), options));
}

task<void> serve(control_socket control) {
  control_socket::state& s = *control.state_;
  bool going = true;
  while (going) {
    result<stream> peer = co_await accept_await(s.core, s.listener.fd(), {});
    if (peer)
      s.admit(std::move(*peer));
    else
      // A cancel ends the pause as well. Else it is a shortage (EMFILE, ENOMEM) that may pass.
      going = co_await pause(s.core);
  }
  s.listener.close();
  s.cancel_clients();
  // Cancelled or not: the clients use what ends with this frame.
  while (s.some_client_is_open()) co_await s.client_ended.notified_shielded();
}

}  // namespace sluice
