#include "store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
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

// Opens a directory; those of its path that are missing are made, each durably in the one above it.
task<result<sluice::directory>> open_or_make(sluice::engine& on, const std::string& path) {
  result<sluice::directory> found = co_await sluice::directory::open(on, path);
  if (found || found.error().code != ENOENT) co_return found;
  std::error_code problem;
  // Without "..", which would have to be there to be followed.
  std::filesystem::path there = std::filesystem::weakly_canonical(path, problem);
  if (problem) co_return sluice::fail(problem.value(), "open", "directory");
  std::filesystem::path missing;
  while (!found && found.error().code == ENOENT && !there.empty()) {
    if (there.has_filename())
      missing = missing.empty() ? there.filename() : there.filename() / missing;
    there = there.parent_path();
    const std::string above = there.empty() ? "." : there.string();
    found = co_await sluice::directory::open(on, above);
  }
  if (!found) co_return found;
  const std::string rest = missing.string();
  co_return co_await found->open_directory(rest, sluice::make_parents::yes);
}

using inode = std::pair<dev_t, ino_t>;

// Syncs the directories above one, up to the top of its filesystem: an earlier run may have made
// what is there and have ended before it came to that. Not those where we may not look or go: what
// could not be synced there was not made either. `kept`: those that were synced, and so were the
// ones above them.
task<result<void>> keep_names_above(sluice::engine& on, std::string path, std::set<inode>& kept) {
  struct stat here{};
  if (::stat(path.c_str(), &here) != 0) co_return sluice::fail(errno, "stat", "directory");
  for (;;) {
    path += "/..";
    struct stat above{};
    if (::stat(path.c_str(), &above) != 0) {
      if (errno == EACCES) co_return result<void>();
      co_return sluice::fail(errno, "stat", "directory above");
    }
    const bool is_top = above.st_dev != here.st_dev || above.st_ino == here.st_ino;
    if (is_top || !kept.emplace(above.st_dev, above.st_ino).second) co_return result<void>();
    here = above;
    result<sluice::directory> in = co_await sluice::directory::open(on, path);
    if (!in && in.error().code == EACCES) continue;
    if (!in) co_return std::unexpected(in.error());
    const result<void> synced = co_await in->sync();
    if (!synced) co_return synced;
  }
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
  const result<sluice::file_info> info = co_await file->look();
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
  entries_.push_back({std::move(*file), std::nullopt, std::nullopt, false});
  co_return std::expected<void, std::string>();
}

void store::add_pad() {
  fds_.push_back(no_descriptor);
  entries_.emplace_back();
  has_pads_ = true;
}

bool store::has_pad(std::uint64_t offset, std::uint64_t bytes) const {
  const auto is_file = [this](const segment& part) { return fds_[part.file] != no_descriptor; };
  return has_pads_ && !layout_.for_each(offset, bytes, is_file);
}

void store::clear_pads(std::span<std::byte> bytes, std::uint64_t offset) const {
  if (!has_pads_) return;
  layout_.for_each(offset, bytes.size(), [&](const segment& part) {
    if (fds_[part.file] == no_descriptor) std::ranges::fill(bytes.first(part.bytes), std::byte{0});
    bytes = bytes.subspan(part.bytes);
    return true;
  });
}

task<std::expected<void, std::string>> store::make_all(sluice::engine& on, const metainfo& of,
                                                       const std::string& directory) {
  result<sluice::directory> root = co_await open_or_make(on, directory);
  if (!root) co_return refused(explain(directory, root.error()));
  std::error_code problem;
  const std::string top = std::filesystem::weakly_canonical(directory, problem).string();
  if (problem) co_return refused(fmt::format("{}: {}", directory, problem.message()));
  std::set<inode> kept;
  const result<void> named = co_await keep_names_above(on, top, kept);
  if (!named) co_return refused(explain(directory, named.error()));
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
      const std::string below = top + "/" + parent;
      const result<void> kept_above = co_await keep_names_above(on, below, kept);
      if (!kept_above) co_return refused(explain(parent, kept_above.error()));
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
    const result<sluice::file_info> info = co_await found->look();
    if (!info) co_return refused(explain(file.path, info.error()));
    if (info->bytes != file.bytes)
      co_return refused(fmt::format("{}/{}: has {} bytes, but {} in the torrent", directory,
                                    file.path, info->bytes, file.bytes));
    fds_.push_back(found->fd());
    entries_.push_back({std::move(*found), std::nullopt, std::nullopt, false});
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
  const segment only = first_of(offset, bytes.size());
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
    const segment here = first_of(offset + done, bytes.size() - done);
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

segment store::first_of(std::uint64_t offset, std::uint64_t bytes) const {
  segment first;
  layout_.for_each(offset, bytes, [&first](const segment& part) {
    first = part;
    return false;
  });
  return first;
}

task<result<void>> store::read(std::span<std::byte> into, std::uint64_t offset) {
  while (!into.empty()) {
    const segment here = first_of(offset, into.size());
    const result<void> read = co_await read_cached(into.first(here.bytes), here);
    if (!read) co_return read;
    into = into.subspan(here.bytes);
    offset += here.bytes;
  }
  co_return result<void>();
}

task<result<void>> store::read_cached(std::span<std::byte> into, segment from) {
  entry& file = entries_[from.file];
  if (fds_[from.file] == no_descriptor) {
    std::ranges::fill(into, std::byte{0});
    co_return result<void>();
  }
  const result<void> unstaged = co_await unstage(from.file, from.offset, from.bytes);
  if (!unstaged) co_return unstaged;
  result<std::size_t> got;
  if (file.writer) {
    got = co_await file.writer->read(into, from.offset);
  } else {
    got = co_await file.file.read(into, from.offset);
  }
  if (!got) co_return std::unexpected(got.error());
  if (*got < from.bytes) co_return sluice::fail(sluice::code::end_of_stream, "read", "store");
  co_return result<void>();
}

task<std::string> store::open_direct() {
  std::string why;
  std::size_t without = 0;
  std::uint64_t unit_max = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (fds_[i] == no_descriptor || layout_.file_bytes(i) == 0) continue;
    result<sluice::direct_reader> reader = co_await sluice::direct_reader::open(entries_[i].file);
    if (reader) {
      unit_max = std::max<std::uint64_t>(unit_max, reader->alignment_bytes());
      entries_[i].direct.emplace(std::move(*reader));
    } else if (++without == 1) {
      why = sluice::describe(reader.error());
    }
  }
  // A read begins on a page of the memory, and up to a unit before the range and after it.
  if (unit_max > 0) spare_bytes_ = page_bytes + 2 * unit_max;
  if (without == 0) co_return std::string();
  co_return fmt::format("no O_DIRECT for {} of {} files, which are read through the page cache: {}",
                        without, entries_.size(), why);
}

// Where the range is still in memory, not yet written, it is copied from there; where only a part
// of it is, that is written first.
task<store::found_bytes> store::read_direct(const sluice::lease& into, segment from) {
  const std::span<std::byte> place = into.bytes().first(from.bytes);
  entry& file = entries_[from.file];
  if (!file.direct) {
    const result<void> read = co_await read_cached(place, from);
    if (!read) co_return std::unexpected(read.error());
    co_return found_bytes(place);
  }
  const result<void> unstaged = co_await unstage(from.file, from.offset, from.bytes);
  if (!unstaged) co_return std::unexpected(unstaged.error());
  if (file.writer) {
    if (file.writer->try_read(place, from.offset)) co_return found_bytes(place);
    const result<void> stored = co_await file.writer->flush(from.offset, from.bytes);
    if (!stored) co_return std::unexpected(stored.error());
  }
  const found_bytes got = co_await file.direct->read(into, from.offset, from.bytes);
  if (got && got->size() < from.bytes)
    co_return sluice::fail(sluice::code::end_of_stream, "read", "store");
  co_return got;
}

// What lies in several files is read one behind the other, each from a page on, and moved together.
task<store::found_bytes> store::read_block(const sluice::lease& into, std::uint64_t offset,
                                           std::uint64_t bytes) {
  if (spare_bytes_ == 0 || into.size() < bytes + spare_bytes_) {
    const std::span<std::byte> place = into.bytes().first(bytes);
    const result<void> read = co_await this->read(place, offset);
    if (!read) co_return std::unexpected(read.error());
    co_return found_bytes(place);
  }
  const segment first = first_of(offset, bytes);
  if (first.bytes == bytes) co_return co_await read_direct(into, first);
  for (std::uint64_t done = 0; done < bytes;) {
    const segment here = first_of(offset + done, bytes - done);
    const auto behind =
        static_cast<std::uint32_t>((done + page_bytes - 1) / page_bytes * page_bytes);
    const sluice::lease rest = into.part(behind, into.size() - behind);
    const found_bytes got = co_await read_direct(rest, here);
    if (!got) co_return got;
    std::memmove(into.data() + done, got->data(), got->size());
    done += here.bytes;
  }
  co_return found_bytes(into.bytes().first(bytes));
}

task<result<void>> store::commit() {
  result<void> first;
  const auto note = [&first](const result<void>& done) {
    if (first && !done) first = done;
  };
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].writer) continue;
    const result<void> unstaged = co_await unstage(i, 0, layout_.file_bytes(i));
    note(unstaged);
    const result<void> done = co_await entries_[i].writer->commit();
    note(done);
  }
  for (sluice::directory& in : directories_) {
    const result<void> done = co_await in.sync();
    note(done);
  }
  co_return first;
}

}  // namespace bt
