// Files and directories: opening beneath a root, durable writes, and names that are whole or
// absent.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sluice/api.hpp"
#include "sluice/op.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine;
class engine_core;
struct file_state;
struct receipt;

struct file_info {
  std::uint64_t bytes = 0;
  std::uint64_t inode = 0;
  std::int64_t modified_ns = 0;  // since 1970, CLOCK_REALTIME
};

// Which modification time a published file shows.
enum class modified : std::uint8_t {
  as_written,  // of its last write, as the kernel dates it: by its last tick, up to 10 ms before
  now,         // of its sync, or of its naming when it is only stored, to the nanosecond: no two
               // contents of a name share one. A filesystem that takes no time keeps its own
};

// A regular file. Move-only. The destructor closes in the background, and takes a temporary name
// with it. Loop thread; must not outlive its engine. O_APPEND files, FIFOs and devices are refused
// with EINVAL.
class SLUICE_API file {
 public:
  file();
  explicit file(std::unique_ptr<file_state> state);
  // Takes over an open descriptor and clears its O_NONBLOCK. EINVAL for O_APPEND, which ignores
  // offsets, and for what is not a regular file; the descriptor then still belongs to the caller.
  // It has a name already or never gets one: publish refuses it.
  static result<file> adopt(engine& on, int fd);
  file(file&&) noexcept;
  file& operator=(file&&) noexcept;
  ~file();

  explicit operator bool() const { return state_ != nullptr; }
  [[nodiscard]] int fd() const;
  // What it is now, by the open descriptor. A FUSE daemon or a server of the network is asked
  // without the loop waiting for it. EBADF; ECANCELED; errors of statx(2).
  [[nodiscard]] task<result<file_info>> look() const;
  // The same at once. Any thread, but may wait for such a daemon or server, and for ever where it
  // hangs: for a worker.
  [[nodiscard]] result<file_info> info() const;

  // Bytes read, fewer only at the end of the file. On FUSE without page cache and asynchronous
  // direct I/O a ring may yield bytes behind it that are none of the file's
  // (kernel-notes/ring_repeats_short_io_on_fuse.md): ask for no more than look() says.
  [[nodiscard]] op_await read(std::span<std::byte> into, std::uint64_t offset);
  // Writes everything at `offset`, or fails: ENOSPC, EDQUOT, EIO. Completed is not durable: see
  // commit.
  [[nodiscard]] op_await write(std::span<const std::byte> bytes, std::uint64_t offset);
  // As write, from several places; advances `parts` when the kernel takes a part of them.
  [[nodiscard]] op_await write(std::span<iovec> parts, std::uint64_t offset);
  [[nodiscard]] op_await truncate(std::uint64_t bytes);
  // Reserves [0, bytes) and lets the file grow to that size (fallocate(2)): ENOSPC and EDQUOT come
  // now, not in the middle, and leave a file that create() made as it was; another one may be
  // longer then. EOPNOTSUPP where the filesystem cannot.
  [[nodiscard]] task<result<void>> reserve(std::uint64_t bytes);

  // Makes every completed write durable (fdatasync, one for all that wait for this file). Of what
  // is under way, a write, a transfer, the blocks of a block_writer (which has a commit of its
  // own), it may cover any part and says nothing: what it is to cover is awaited before. A failure
  // is final: code::durability_unknown now and at every later commit of this file, because the
  // kernel may have dropped the pages (kernel-notes/failed_sync_is_told_once.md). So is another
  // failed sync of that filesystem meanwhile, of this engine or told by engine::add_suspect.
  // code::engine_failed after a failed sync with sluice.commit.on_failure=fail_engine. A cancel
  // before the sync began is ECANCELED, after that it waits for the sync. `of`, when given, is the
  // receipt of the transfer that wrote it and lives until then: success sets its `durable`.
  [[nodiscard]] task<result<void>> commit(receipt* of = nullptr);
  // The data's part of a durable publish, for whoever has something to do between data and name:
  // publish with durability::stored and the directory's sync must follow, and only then it is
  // durable. Shares its sync with other files that are being published (sluice.commit.grouping).
  // Errors as commit; EBUSY as publish.
  [[nodiscard]] task<result<void>> commit_to_publish(modified when = modified::as_written);
  // Dates the file by this moment, to the nanosecond, as modified::now does. Any thread, but may
  // wait for the disk: for a worker. Errors of futimens(2).
  [[nodiscard]] result<void> touch() const;
  // Closes and waits for it. The destructor does the same without waiting.
  [[nodiscard]] task<result<void>> close();

  [[nodiscard]] file_state& state() const { return *state_; }

 private:
  std::unique_ptr<file_state> state_;
};

enum class make_parents : std::uint8_t { no, yes };

// What directory::create_for makes and finds.
struct successor {
  file made;                         // as by directory::create
  std::optional<file_info> current;  // of what it is to replace; nothing has the name
};

// An open directory. All paths are relative to it and resolved beneath it only: no "..", no
// symbolic links, no magic links (openat2(2) RESOLVE_BENEATH and its kin, or a walk that does the
// same). Errors: EXDEV and ELOOP for a path that leads out, ENOENT, ENOTDIR, EACCES.
class SLUICE_API directory {
 public:
  directory() = default;
  // Any path of the process; symbolic links are followed here only.
  [[nodiscard]] static task<result<directory>> open(engine& on, std::string path);
  directory(directory&& other) noexcept;
  directory& operator=(directory&& other) noexcept;
  ~directory();

  // "" is the directory itself, opened again. With make_parents::yes missing directories are made,
  // each durably.
  [[nodiscard]] task<result<directory>> open_directory(std::string path, make_parents make);
  // For reading. EISDIR for a directory, EINVAL for what is not a regular file. `seen`, when given,
  // must live until then and is told what the file was when it had been opened: look() without a
  // second system call.
  [[nodiscard]] task<result<file>> open_file(std::string path, file_info* seen = nullptr);
  // What a regular file looks like, without opening it: needs no permission of the file's own, and
  // wakes nobody who waits for a FIFO to be opened. Errors as open_file.
  [[nodiscard]] task<result<file_info>> look(std::string path);
  // For writing, without a name until published (O_TMPFILE; else a temporary name that goes away
  // unpublished). code::filesystem_suspect and code::engine_failed as publish.
  [[nodiscard]] task<result<file>> create();
  // look(path) and create(), with one hand-over to a thread for both: for a server that has to know
  // what an upload will replace. Errors as both; what is missing, ENOENT, is none.
  [[nodiscard]] task<result<successor>> create_for(std::string path);
  // Removes the name of a regular file, durably when it returns. EISDIR for a directory.
  [[nodiscard]] task<result<void>> remove(std::string path);
  // Makes names created, replaced and removed in it so far durable. code::durability_unknown when
  // a sync fails, and from then on when another one failed on that filesystem since this directory
  // was opened, until the suspicion is cleared (engine::clear_suspects): the kernel tells an error
  // once, perhaps to somebody else (kernel-notes/failed_sync_is_told_once.md).
  [[nodiscard]] task<result<void>> sync();

  [[nodiscard]] int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  [[nodiscard]] engine_core& core() const { return *core_; }

 private:
  directory(engine_core& on, int fd);
  engine_core* core_ = nullptr;
  int fd_ = -1;
  std::uint64_t losses_before_ = 0;  // syncs lost before it was opened
};

enum class existing_name : std::uint8_t {
  replace,  // atomically: a reader sees the old file or the new one
  keep,     // EEXIST
};
enum class durability : std::uint8_t {
  durable,  // survives a power cut
  stored,   // handed to the kernel; survives the process
};
[[nodiscard]] SLUICE_API const char* name(durability d);

struct publish_options {
  existing_name existing = existing_name::replace;
  durability wanted = durability::durable;
  modified when = modified::as_written;
  // Of the transfer that wrote the file, and lives until the end: a durable publish that succeeds
  // sets its `durable`.
  receipt* of_content = nullptr;
};

// Gives a created file its final name in `in`: data synced, name given by linkat or renameat2,
// directory synced, then the answer. After a crash the name shows the whole content or what it
// showed before. Many who publish at the same time share the syncs (sluice.commit.grouping); each
// of a few (sluice.commit.solo_max) has one worker do all of it, and a cancel comes too late once
// that began. `last_name` is one path component. On failure the name is as it was;
// code::durability_unknown says that a sync failed: of the data, and the name is as it was, or of
// the directory, and the file has the name for now. Or another sync of that filesystem failed
// meanwhile, of this engine or told by engine::add_suspect: while the data was synced in a lane,
// and the name is as it was, else the file may have it. From then on code::filesystem_suspect is
// the answer on that filesystem, until engine::clear_suspects; or code::engine_failed
// (sluice.commit.on_failure=fail_engine). EBUSY, and nothing is done: a transfer has the file alone
// (a receive, a copy into it, a direct send), a block_writer of it has bytes that are not stored,
// or has failed and is still there, or it is being published already. Such transfers are EBUSY in
// turn until the publish has ended; a write or a truncation under way is the caller's to await, and
// to begin none, nor post a block.
// Durable is what the filesystem makes of these syncs. ext4 needs its journal for that: without one
// (mkfs.ext4 -O ^has_journal) the sync of a directory does not write the link count of a file that
// was made without a name, and what a replaced file had is used again before the directory says so;
// after a power cut and e2fsck, files that were called durable are gone or partial.
[[nodiscard]] SLUICE_API task<result<void>> publish(file& of, directory& in, std::string last_name,
                                                    publish_options options = {});

struct sweep_report {
  std::uint64_t removed = 0;      // names
  std::uint64_t directories = 0;  // read to their end
};

// Removes the temporary names that ended processes left in `root` and below it, on its filesystem;
// no link is followed. Those of live processes stay: they hold a lock on theirs. For the start of a
// server; reads every directory, one at a time, on a worker. A directory that cannot be read is
// passed over. ECANCELED.
[[nodiscard]] SLUICE_API task<result<sweep_report>> sweep_temporaries(directory& root);

}  // namespace sluice
