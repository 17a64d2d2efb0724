#include "storage/beneath.hpp"

#include <cerrno>

#include "core/engine_core.hpp"
#include "kernel/beneath.hpp"
#include "ops/table.hpp"

namespace sluice {
namespace {

struct walk_request {
  int directory_fd;
  const char* path;
  int flags;
  std::uint32_t mode;
};

std::int64_t walk(void* context) {
  const auto* wanted = static_cast<const walk_request*>(context);
  return kernel::walk_beneath(wanted->directory_fd, wanted->path, wanted->flags, wanted->mode);
}

}  // namespace

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
  op_request request;
  kernel::beneath_how how = kernel::make_beneath_how(flags, mode);
  walk_request wanted{directory_fd, path.c_str(), flags, mode};
  if (core.tried().openat2) {
    request.kind = op_kind::openat2;
    request.fd = directory_fd;
    request.path = path.c_str();
    request.data = &how;
  } else {
    request = call_of(walk, &wanted);
  }
  op_await opening(core.loop(), request);
  const result<std::size_t> opened = co_await opening;
  if (!opened) co_return fail(opened.error().code, "openat2", "open beneath the root");
  co_return kernel::unique_fd(static_cast<int>(*opened));
}

}  // namespace sluice
