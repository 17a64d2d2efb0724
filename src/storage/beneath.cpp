#include "storage/beneath.hpp"

#include <cerrno>

#include "core/engine_core.hpp"
#include "ops/table.hpp"

namespace sluice {

opening_beneath::opening_beneath(const engine_core& core, int directory_fd, const char* path,
                                 int flags, std::uint32_t mode)
    : path_(path),
      directory_fd_(directory_fd),
      flags_(flags),
      mode_(mode),
      how_(kernel::make_beneath_how(flags, mode)) {
  if (!core.tried().openat2) {
    request_ = call_of(walk, this);
    return;
  }
  request_.kind = op_kind::openat2;
  request_.fd = directory_fd;
  request_.path = path;
  request_.data = &how_;
}

std::int64_t opening_beneath::walk(void* opening) {
  const auto& wanted = *static_cast<const opening_beneath*>(opening);
  return kernel::walk_beneath(wanted.directory_fd_, wanted.path_, wanted.flags_, wanted.mode_);
}

std::int64_t opening_beneath::perform() const { return row_of(request_.kind).perform(request_); }

int path_refusal(std::string_view path) {
  if (path.find('\0') != std::string_view::npos) return EINVAL;
  if (path.starts_with('/')) return EXDEV;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    if (path.substr(0, slash) == "..") return EXDEV;
    if (slash == std::string_view::npos) return 0;
    path.remove_prefix(slash + 1);
  }
  return 0;
}

task<result<kernel::unique_fd>> open_beneath(engine_core& core, int directory_fd, std::string path,
                                             int flags, std::uint32_t mode) {
  if (const int refusal = path_refusal(path); refusal != 0)
    co_return fail(refusal, "openat2", "open beneath the root");
  const opening_beneath wanted(core, directory_fd, path.c_str(), flags, mode);
  op_await opening(core.loop(), wanted.request());
  const result<std::size_t> opened = co_await opening;
  if (!opened) co_return fail(opened.error().code, "openat2", "open beneath the root");
  co_return kernel::unique_fd(static_cast<int>(*opened));
}

}  // namespace sluice
