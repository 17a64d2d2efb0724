// The public engine onto its parts.
#include "sluice/engine.hpp"

#include <poll.h>

#include <utility>

#include "core/engine_core.hpp"
#include "ops/table.hpp"
#include "storage/committer.hpp"

namespace sluice {

result<engine> engine::create(const knobs& settings, log_callback log) {
  result<std::unique_ptr<engine_core>> core = engine_core::make(settings, std::move(log));
  if (!core) return std::unexpected(core.error());
  return engine(std::move(*core));
}

engine::engine(std::unique_ptr<engine_core> core) : core_(std::move(core)) {}
engine::engine(engine&&) noexcept = default;
engine& engine::operator=(engine&&) noexcept = default;
engine::~engine() = default;

task_handle engine::adopt(detail::root_task root) { return core_->adopt(root); }
void engine::cancel(task_handle which) { core_->cancel(which); }
void engine::cancel_all() { core_->cancel_all(); }
std::size_t engine::task_count() const { return core_->task_count(); }

void engine::run() { core_->run(); }
void engine::run_once(std::chrono::nanoseconds timeout) {
  core_->turn(timeout.count(), core_->values().loop.completions_per_turn);
}
void engine::stop() { core_->stop(); }
int engine::poll_fd() { return core_->guest_fd(); }
std::size_t engine::process(std::size_t budget) { return core_->turn(0, budget); }
void engine::post(std::move_only_function<void()> work) { core_->loop().post(std::move(work)); }

op_await engine::sleep_for(std::chrono::nanoseconds duration) {
  op_request request;
  request.kind = op_kind::timeout;
  return {core_->loop(), request, duration};
}

op_await engine::wait_readable(int fd, std::chrono::nanoseconds timeout) {
  op_request request;
  request.kind = op_kind::poll;
  request.fd = fd;
  request.flags = POLLIN;
  return {core_->loop(), request, timeout};
}

std::size_t engine::waits_max() const { return core_->carrier().polls_max(); }

op_await engine::run_on_worker(std::int64_t (*function)(void*), void* context) {
  return {core_->loop(), call_of(function, context)};
}

lease_await engine::acquire_block(std::chrono::nanoseconds timeout) {
  return {core_->blocks(), core_->loop(), timeout};
}

lease_await engine::acquire_head(std::chrono::nanoseconds timeout) {
  return {core_->heads(), core_->loop(), timeout};
}

const knobs& engine::settings() const { return core_->settings(); }
result<void> engine::set_knob(std::string_view name, std::string_view value) {
  return core_->set_live(name, value);
}
std::size_t engine::clear_suspects() { return committer_of(*core_).clear_suspects(); }
void engine::on_suspect(suspect_callback told) { committer_of(*core_).on_suspect(std::move(told)); }
void engine::add_suspect(std::uint64_t device) { committer_of(*core_).add_suspect(device); }
counter_snapshot engine::counters() const { return tuning::snapshot(core_->counters()); }
std::string_view engine::backend_name() const { return core_->carrier().name(); }

std::vector<capability> engine::capabilities() const {
  std::vector<capability> rows;
  for (const kernel::capability_row& row : core_->capabilities().rows()) {
    rows.push_back({row.name, row.present, row.reason});
  }
  return rows;
}

}  // namespace sluice
