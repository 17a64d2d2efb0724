#include "store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace bt {

namespace {

using refused = std::unexpected<std::string>;
using sluice::result;
using sluice::task;

constexpr std::uint64_t page_bytes = 4096;

std::string explain(const std::string& path, const sluice::error& problem) {
  return fmt::format("{}: {}", path, sluice::describe(problem));
}

// The directory's part of a path, and the last component.
std::pair<std::string, std::string> split(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// A quarter of the pool at most waits to be complete.
std::size_t windows_max(const sluice::engine& on) {
  const auto arena = on.settings().get("sluice.memory.arena_bytes");
  const auto block = on.settings().get("sluice.memory.block_bytes");
  if (!arena || !block) return 1;
  return std::max<std::uint64_t>(std::stoull(*arena) / 4 / std::stoull(*block), 1);
}

// Where space cannot be reserved, the file is made as long.
task<result<void>> reserve(sluice::file& of, std::uint64_t bytes) {
  const result<void> reserved = co_await of.reserve(bytes);
  if (reserved || reserved.error().code != EOPNOTSUPP) co_return reserved;
  const result<std::size_t> cut = co_await of.truncate(bytes);
  if (!cut) co_return std::unexpected(cut.error());
  co_return result<void>();
}

}  // namespace

store::store(sluice::engine& on, const metainfo& of)
    : layout_(of.layout()), staging_(on, windows_max(on)) {}

task<std::expected<void, std::string>> store::open_one(sluice::engine& on, const metainfo_file& of,
                                                       sluice::directory& in,
                                                       const std::string& name) {
  const int fd = ::openat(in.fd(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) co_return refused(fmt::format("{}: {}", of.path, std::strerror(errno)));
  result<sluice::file> file = sluice::file::adopt(on, fd);
  if (!file) {
    ::close(fd);
    co_return refused(explain(of.path, file.error()));
  }
  const result<sluice::file_info> info = file->info();
  if (!info) co_return refused(explain(of.path, info.error()));
  if (info->bytes > of.bytes)
    co_return refused(fmt::format("{}: is there with {} bytes, but has {} in the torrent", of.path,
                                  info->bytes, of.bytes));
  if (info->bytes > 0) found_content_ = true;
  if (of.bytes > 0) {
    const result<void> reserved = co_await reserve(*file, of.bytes);
    if (!reserved) co_return refused(explain(of.path, reserved.error()));
  }
  fds_.push_back(file->fd());
  entries_.push_back({std::move(*file), std::nullopt, false});
  co_return std::expected<void, std::string>();
}

void store::add_pad() {
  fds_.push_back(no_descriptor);
  entries_.emplace_back();
}

task<std::expected<void, std::string>> store::make_all(sluice::engine& on, const metainfo& of,
                                                       const std::string& directory) {
  std::error_code problem;
  std::filesystem::create_directories(directory, problem);
  if (problem) co_return refused(fmt::format("{}: {}", directory, problem.message()));
  result<sluice::directory> root = co_await sluice::directory::open(on, directory);
  if (!root) co_return refused(explain(directory, root.error()));
  std::string last = "/";  // no file's
  for (const metainfo_file& file : of.files) {
    if (file.pad) {
      add_pad();
      continue;
    }
    const auto [parent, name] = split(file.path);
    if (parent != last) {
      result<sluice::directory> in =
          co_await root->open_directory(parent, sluice::make_parents::yes);
      if (!in) co_return refused(explain(parent, in.error()));
      directories_.push_back(std::move(*in));
      last = parent;
    }
    const auto made = co_await open_one(on, file, directories_.back(), name);
    if (!made) co_return made;
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (of.files[i].bytes == 0 || of.files[i].pad) continue;
    result<sluice::block_writer> writer = co_await sluice::block_writer::open(entries_[i].file);
    if (!writer) co_return refused(explain(of.files[i].path, writer.error()));
    entries_[i].writer.emplace(std::move(*writer));
    entries_[i].staged = layout_.file_offset(i) % page_bytes != 0;
  }
  co_return std::expected<void, std::string>();
}

task<std::expected<void, std::string>> store::find_all(sluice::engine& on, const metainfo& of,
                                                       const std::string& directory) {
  result<sluice::directory> root = co_await sluice::directory::open(on, directory);
  if (!root) co_return refused(explain(directory, root.error()));
  for (const metainfo_file& file : of.files) {
    if (file.pad) {
      add_pad();
      continue;
    }
    result<sluice::file> found = co_await root->open_file(file.path);
    if (!found) co_return refused(explain(directory + "/" + file.path, found.error()));
    const result<sluice::file_info> info = found->info();
    if (!info) co_return refused(explain(file.path, info.error()));
    if (info->bytes != file.bytes)
      co_return refused(fmt::format("{}/{}: has {} bytes, but {} in the torrent", directory,
                                    file.path, info->bytes, file.bytes));
    fds_.push_back(found->fd());
    entries_.push_back({std::move(*found), std::nullopt, false});
  }
  found_content_ = true;
  co_return std::expected<void, std::string>();
}

task<store::opened> store::open_to_write(sluice::engine& on, const metainfo& of,
                                         const std::string& directory) {
  std::unique_ptr<store> made(new store(on, of));
  const auto done = co_await made->make_all(on, of, directory);
  if (!done) co_return refused(done.error());
  co_return opened(std::move(made));
}

task<store::opened> store::open_to_read(sluice::engine& on, const metainfo& of,
                                        const std::string& directory) {
  std::unique_ptr<store> made(new store(on, of));
  const auto done = co_await made->find_all(on, of, directory);
  if (!done) co_return refused(done.error());
  co_return opened(std::move(made));
}

staging::target store::target_of(std::size_t file) {
  return {&*entries_[file].writer, layout_.file_bytes(file)};
}

result<bool> store::try_write(sluice::lease& block, std::span<const std::byte> bytes,
                              std::uint64_t offset) {
  segment only;
  layout_.for_each(offset, bytes.size(), [&only](const segment& part) {
    only = part;
    return false;
  });
  entry& into = entries_[only.file];
  if (only.bytes < bytes.size() || into.staged || !into.writer || !into.writer->has_room())
    return false;
  const result<void> posted = into.writer->post(std::move(block), bytes, only.offset);
  if (!posted) return std::unexpected(posted.error());
  return true;
}

task<result<void>> store::write(sluice::lease block, std::span<const std::byte> bytes,
                                std::uint64_t offset) {
  for (std::uint64_t done = 0; done < bytes.size();) {
    segment here;
    layout_.for_each(offset + done, bytes.size() - done, [&here](const segment& part) {
      here = part;
      return false;
    });
    const std::span<const std::byte> part = bytes.subspan(done, here.bytes);
    done += here.bytes;
    if (!entries_[here.file].writer) continue;  // a pad
    sluice::block_writer& into = *entries_[here.file].writer;
    result<void> written;
    if (entries_[here.file].staged) {
      written = co_await staging_.put(target_of(here.file), part, here.offset);
    } else {
      while (written && !into.has_room()) written = co_await into.room();
      sluice::lease share = block.part(static_cast<std::uint32_t>(part.data() - bytes.data()),
                                       static_cast<std::uint32_t>(here.bytes));
      if (written) written = into.post(std::move(share), part, here.offset);
    }
    if (!written) co_return written;
  }
  co_return result<void>();
}

task<result<void>> store::unstage(std::size_t file, std::uint64_t offset, std::uint64_t bytes) {
  if (!entries_[file].staged) co_return result<void>();
  co_return co_await staging_.flush(target_of(file), offset, bytes);
}

task<result<void>> store::read(std::span<std::byte> into, std::uint64_t offset) {
  while (!into.empty()) {
    segment here;
    layout_.for_each(offset, into.size(), [&](const segment& part) {
      here = part;
      return false;
    });
    entry& from = entries_[here.file];
    const std::span<std::byte> place = into.first(here.bytes);
    into = into.subspan(here.bytes);
    offset += here.bytes;
    if (fds_[here.file] == no_descriptor) {
      std::ranges::fill(place, std::byte{0});
      continue;
    }
    const result<void> unstaged = co_await unstage(here.file, here.offset, here.bytes);
    if (!unstaged) co_return unstaged;
    result<std::size_t> got;
    if (from.writer) {
      got = co_await from.writer->read(place, here.offset);
    } else {
      got = co_await from.file.read(place, here.offset);
    }
    if (!got) co_return std::unexpected(got.error());
    if (*got < here.bytes) co_return sluice::fail(sluice::code::end_of_stream, "read", "store");
  }
  co_return result<void>();
}

task<result<void>> store::commit() {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].writer) continue;
    result<void> done = co_await unstage(i, 0, layout_.file_bytes(i));
    if (done) done = co_await entries_[i].writer->commit();
    if (!done) co_return done;
  }
  for (sluice::directory& in : directories_) {
    const result<void> done = co_await in.sync();
    if (!done) co_return done;
  }
  co_return result<void>();
}

}  // namespace bt
