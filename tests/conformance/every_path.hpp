// Every path of a transfer, forced by its knobs, with peers and files whose bytes a seed fixes: any
// length is checked to the byte without being held in memory.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "conformance/upload.hpp"
#include "sluice/file_copy.hpp"
#include "sluice/relay.hpp"

namespace every_path {

using namespace conformance;

// So that a transfer of a few blocks of 32 KiB has many steps to be ended at.
inline const knob_list small_steps{
    {"sluice.loop.completions_per_turn", "1"}, {"sluice.loop.bytes_per_turn", "64K"},
    {"sluice.memory.block_bytes", "32K"},      {"sluice.memory.arena_bytes", "1M"},
    {"sluice.receive.mapped_bytes", "64K"},    {"sluice.splice.pipes_max", "1"},
    {"sluice.splice.pipe_bytes", "16K"},       {"sluice.splice.chunk_bytes", "16K"},
    {"sluice.copy.chunk_bytes", "16K"},        {"sluice.storage.drop_bytes", "64K"}};

enum class move : std::uint8_t { receive, send, relay, copy };

struct route {
  std::string name;
  move kind;
  std::vector<support::knob_value> knobs;
  bool is_direct = false;     // only where files take O_DIRECT
  bool is_of_ring = false;    // only with a ring
  bool is_past_us = false;    // through pipes, past our memory
  bool is_shared = false;     // only where files share blocks, and whole files
  const char* path = "copy";  // as the receipt must name it
  sluice::cache_policy cache = sluice::cache_policy::automatic;
};

inline const std::vector<route>& routes() {
  static const std::vector<route> all = [] {
    std::vector<route> made{
        {"receive copy", move::receive, {{"sluice.receive.path", "copy"}}},
        {.name = "receive direct",
         .kind = move::receive,
         .knobs = {{"sluice.receive.path", "direct"}},
         .is_direct = true,
         .path = "direct"},
        {.name = "receive mapped",
         .kind = move::receive,
         .knobs = {{"sluice.receive.path", "mapped"}},
         .path = "mapped"},
        {"send copy",
         move::send,
         {{"sluice.send.path", "copy"}, {"sluice.send.zero_copy", "never"}}},
        {.name = "send direct",
         .kind = move::send,
         .knobs = {{"sluice.send.path", "direct"}, {"sluice.send.zero_copy", "never"}},
         .is_direct = true,
         .path = "direct"},
        {.name = "send copy, zero-copy",
         .kind = move::send,
         .knobs = {{"sluice.send.path", "copy"}, {"sluice.send.zero_copy", "always"}},
         .is_of_ring = true},
        {.name = "send direct, zero-copy",
         .kind = move::send,
         .knobs = {{"sluice.send.path", "direct"}, {"sluice.send.zero_copy", "always"}},
         .is_direct = true,
         .is_of_ring = true,
         .path = "direct"},
        {"relay copy", move::relay, {{"sluice.relay.path", "copy"}}},
        {"copy copy", move::copy, {{"sluice.copy.path", "copy"}}},
        {.name = "copy copy_file_range",
         .kind = move::copy,
         .knobs = {{"sluice.copy.path", "copy_file_range"}},
         .path = "copy_file_range"},
        {.name = "copy reflink",
         .kind = move::copy,
         .knobs = {{"sluice.copy.path", "reflink"}},
         .is_shared = true,
         .path = "reflink"},
        {.name = "copy, cache policy direct",
         .kind = move::copy,
         .knobs = {{"sluice.copy.path", "auto"}},
         .is_shared = true,
         .path = "reflink",
         .cache = sluice::cache_policy::direct},
    };
    const auto by_policy = [&made](const char* what, move kind, support::knob_value knob) {
      for (const auto& [word, cache] :
           {std::pair{", drop_behind", sluice::cache_policy::drop_behind},
            std::pair{", dontcache", sluice::cache_policy::dontcache}}) {
        made.push_back(
            {.name = what + std::string(word), .kind = kind, .knobs = {knob}, .cache = cache});
      }
    };
    by_policy("receive", move::receive, {"sluice.receive.path", "copy"});
    by_policy("send", move::send, {"sluice.send.path", "copy"});
    by_policy("copy", move::copy, {"sluice.copy.path", "copy"});
    for (const char* via : {"inline", "pool", "ring"}) {
      const auto spliced = [&](const char* what, move kind, const char* knob) {
        made.push_back({.name = std::string(what) + " splice via " + via,
                        .kind = kind,
                        .knobs = {{knob, "splice"}, {"sluice.splice.via", via}},
                        .is_past_us = true,
                        .path = "splice"});
      };
      spliced("receive", move::receive, "sluice.receive.path");
      spliced("send", move::send, "sluice.send.path");
      spliced("relay", move::relay, "sluice.relay.path");
    }
    return made;
  }();
  return all;
}

inline bool is_possible(const setting& on, const route& by) {
  return (!by.is_direct || on.direct) && (!by.is_of_ring || on.backend == "ring") &&
         (!by.is_shared || on.shares) && (on.maps || std::string_view(by.path) != "mapped");
}

// A path, and not what is to be left in the page cache behind it.
inline bool is_path(const route& by) { return by.cache == sluice::cache_policy::automatic; }

inline void force(world& w, const route& by) {
  for (const support::knob_value& k : by.knobs) {
    REQUIRE(w.engine().set_knob(k.name, k.value).has_value());
  }
}

// The settings on the filesystem of the build alone.
inline std::vector<setting> on_disk() {
  std::vector<setting> all = every_setting();
  std::erase_if(all, [](const setting& s) { return !s.name.ends_with("build folder"); });
  return all;
}

// check(world, route) by every route for which `wanted` holds.
template <class Wanted, class Check>
void for_each(const std::vector<setting>& settings, knob_list more, Wanted wanted, Check check) {
  for (const setting& on : settings) {
    CAPTURE(on.name);
    for (const route& by : routes()) {
      if (!is_possible(on, by) || !wanted(by)) continue;
      CAPTURE(by.name);
      world w(on, more);
      force(w, by);
      check(w, by);
      w.settle();
      CHECK(w.engine().core().pipes().taken() == 0);
    }
  }
}

// Bytes of a seed's pattern.
struct content {
  std::uint64_t seed = 0;
  std::uint64_t length = 0;
  std::uint64_t offset = 0;
};

// Sends it all; false when the other end is gone.
inline bool give(int fd, content c) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(c.length, 1 << 20));
  for (std::uint64_t done = 0; done < c.length;) {
    const auto piece =
        std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), c.length - done));
    support::fill_pattern(piece, c.seed, c.offset + done);
    if (!send_all(fd, piece)) return false;
    done += piece.size();
  }
  return true;
}

struct taken {
  std::uint64_t bytes = 0;
  bool right = true;  // they are the pattern's, from its `offset` on
};

// Until next(buffer) gives nothing more.
template <class Next>
taken take(content c, Next next) {
  std::vector<std::byte> buffer(256 * 1024);
  taken t;
  while (true) {
    const ssize_t got = next(std::span(buffer), t.bytes);
    if (got <= 0) return t;
    const auto piece = std::span(buffer).first(static_cast<std::size_t>(got));
    t.right = t.right && support::is_pattern(piece, c.seed, c.offset + t.bytes);
    t.bytes += piece.size();
  }
}
inline taken take_from_peer(int fd, content c) {
  return take(c, [fd](std::span<std::byte> into, std::uint64_t) {
    return ::recv(fd, into.data(), into.size(), 0);
  });
}
inline taken take_from_file(const std::string& path, content c) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  const taken t = take(c, [fd](std::span<std::byte> into, std::uint64_t at) {
    return ::pread(fd, into.data(), into.size(), static_cast<off_t>(at));
  });
  ::close(fd);
  return t;
}

inline void make_source(const std::string& path, content c) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  REQUIRE(fd >= 0);
  std::vector<std::byte> buffer(std::min<std::uint64_t>(c.length, 1 << 20));
  for (std::uint64_t done = 0; done < c.length;) {
    const auto piece =
        std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), c.length - done));
    support::fill_pattern(piece, c.seed, c.offset + done);
    REQUIRE(::write(fd, piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()));
    done += piece.size();
  }
  ::close(fd);
}

// What one transfer came to.
struct moved {
  int failure = EINPROGRESS;
  sluice::receipt progress;
  // What the receipt counts, of a relay both, and what the engine did for it and continued.
  std::uint64_t told_ops = 0;
  std::uint64_t told_short = 0;
  std::uint64_t ops = 0;
  std::uint64_t resumed = 0;
  void add(const sluice::receipt& r) {
    told_ops += r.ops;
    told_short += r.short_ops;
  }
  void add(const op_counts& meanwhile) {
    ops += meanwhile.submitted();
    resumed += meanwhile.resumed();
  }
};

template <class T>
int code_of(const sluice::result<T>& r) {
  return r ? 0 : r.error().code;
}

template <class T>
moved failed_by(const sluice::result<T>& r) {
  moved m;
  m.failure = code_of(r);
  return m;
}

// Each of these owns what the engine's side has, and ends with a file named "target", if with one.
inline sluice::task<moved> receive_one(sluice::engine& e, sluice::stream from,
                                       upload_request request) {
  const uploaded u = co_await receive_upload(e, std::move(from), std::move(request));
  moved m;
  m.failure = code_of(u.outcome);
  m.progress = u.progress;
  m.add(u.progress);
  m.ops = u.ops;
  m.resumed = u.resumed;
  if (m.failure == 0) m.failure = code_of(u.published);
  co_return m;
}

inline sluice::task<moved> send_one(sluice::engine& e, sluice::stream to, std::string folder,
                                    content c, sluice::send_options options = {}) {
  moved m;
  const std::string name = "source";
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  if (!in) co_return failed_by(in);
  sluice::result<sluice::file> from = co_await in->open_file(name);
  if (!from) co_return failed_by(from);
  options.length = c.length;
  options.offset = c.offset;
  const op_counts meanwhile(e);
  const sluice::result<sluice::receipt> sent =
      co_await sluice::send_from_file(to, *from, options, &m.progress);
  m.failure = code_of(sent);
  m.add(m.progress);
  m.add(meanwhile);
  co_return m;
}

inline sluice::task<moved> relay_one(sluice::engine& e, sluice::stream first, sluice::stream second,
                                     std::chrono::nanoseconds deadline = {}) {
  moved m;
  sluice::relay_receipts progress;
  const op_counts meanwhile(e);
  const sluice::result<sluice::relay_receipts> relayed =
      co_await sluice::relay(first, second, {.deadline = deadline}, &progress);
  m.failure = code_of(relayed);
  m.progress = progress.to_second;
  m.add(progress.to_second);
  m.add(progress.to_first);
  m.add(meanwhile);
  co_return m;
}

inline sluice::task<moved> copy_one(sluice::engine& e, std::string folder, content c,
                                    sluice::copy_options range) {
  moved m;
  const std::string source = "source";
  const std::string target = "target";
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  if (!in) co_return failed_by(in);
  sluice::result<sluice::file> from = co_await in->open_file(source);
  if (!from) co_return failed_by(from);
  sluice::result<sluice::file> into = co_await in->create();
  if (!into) co_return failed_by(into);
  range.length = c.length;
  range.source_offset = c.offset;
  const op_counts meanwhile(e);
  const sluice::result<sluice::receipt> copied =
      co_await sluice::copy_file(*from, *into, range, &m.progress);
  m.failure = code_of(copied);
  m.add(m.progress);
  m.add(meanwhile);
  if (m.failure != 0) co_return m;
  sluice::publish_options options;
  options.wanted = sluice::durability::stored;
  const sluice::result<void> published = co_await sluice::publish(*into, *in, target, options);
  m.failure = code_of(published);
  co_return m;
}

// One transfer under way. Sends and copies find their bytes in the file "source", which has the
// pattern from offset 0 on.
class transfer {
 public:
  // Connected pairs, made by the test: transfer() takes the engine's ends and the peers'.
  struct wires {
    stream_pair in;   // what is received or relayed comes from its peer
    stream_pair out;  // what is sent or relayed goes to its peer
  };
  static wires tcp() { return {stream_pair::tcp(), stream_pair::tcp()}; }
  static wires local() { return {stream_pair::local(), stream_pair::local()}; }

  transfer(world& w, const route& by, content c, wires ends, std::chrono::nanoseconds deadline = {})
      : world_(w),
        kind_(by.kind),
        path_(by.path),
        cache_(by.cache),
        content_(c),
        deadline_(deadline),
        ends_(std::move(ends)) {
    if (kind_ == move::receive || kind_ == move::relay) {
      peers_.push_back(std::make_unique<peer>(ends_.in.take_theirs(), [c](int fd) {
        give(fd, c);
        ::shutdown(fd, SHUT_WR);
        take_all(fd);
      }));
    }
    if (kind_ == move::send || kind_ == move::relay) {
      peers_.push_back(std::make_unique<peer>(
          ends_.out.take_theirs(), [this](int fd) { taken_ = take_from_peer(fd, content_); }));
    }
    handle_ = w.engine().start(task(), [this](moved m) {
      ++told_;
      moved_ = m;
    });
  }
  transfer(const transfer&) = delete;
  transfer& operator=(const transfer&) = delete;

  [[nodiscard]] bool has_ended() const { return told_ > 0; }
  void cancel() { world_.engine().cancel(handle_); }
  // To its end and that of its peers: what is checked then is final.
  void finish(std::chrono::seconds limit = 60s) {
    world_.until([this] { return has_ended(); }, limit);
    for (const auto& p : peers_) p->join(world_);
    world_.settle();
    CHECK(told_ == 1);
  }
  [[nodiscard]] const moved& outcome() const { return moved_; }

  // All of it is where it had to go.
  void check_whole() {
    REQUIRE(moved_.failure == 0);
    CHECK(moved_.progress.bytes == content_.length);
    CHECK(std::string_view(name(moved_.progress.path)) == path_);
    check_counts();
    const bool into_file = kind_ == move::receive || kind_ == move::copy;
    const taken t = into_file ? take_from_file(world_.at("target"), content_) : taken_;
    CHECK(t.bytes == content_.length);
    CHECK(t.right);
    std::filesystem::remove(world_.at("target"));
  }
  // Nothing but the beginning of it is anywhere, and no file has the name.
  void check_part() const {
    CHECK(taken_.right);
    CHECK(taken_.bytes <= content_.length);
    CHECK(moved_.progress.bytes <= content_.length);
    check_counts();
    CHECK(!std::filesystem::exists(world_.at("target")));
  }

 private:
  void check_counts() const {
    // Who has a deadline is told a turn later: the close of what dropped the pages has begun then.
    const bool closes = deadline_.count() != 0 && cache_ != sluice::cache_policy::automatic;
    CHECK(moved_.ops - moved_.told_ops <= (closes ? 1U : 0U));
    CHECK(moved_.told_short >= moved_.resumed);
  }
  sluice::task<moved> task() {
    sluice::engine& e = world_.engine();
    const std::string folder = world_.folder().path().string();
    switch (kind_) {
      case move::receive: {
        upload_request request{folder, "target", of_length(content_.length)};
        request.body.cache = cache_;
        request.body.deadline = deadline_;
        return receive_one(e, adopt(e, ends_.in.take_ours()), std::move(request));
      }
      case move::send:
        return send_one(e, adopt(e, ends_.out.take_ours()), folder, content_,
                        {.cache = cache_, .deadline = deadline_});
      case move::relay:
        return relay_one(e, adopt(e, ends_.in.take_ours()), adopt(e, ends_.out.take_ours()),
                         deadline_);
      default: return copy_one(e, folder, content_, {.cache = cache_, .deadline = deadline_});
    }
  }

  world& world_;
  const move kind_;
  const std::string_view path_;
  const sluice::cache_policy cache_;
  const content content_;
  const std::chrono::nanoseconds deadline_;
  wires ends_;
  taken taken_;  // by the peer that takes
  std::vector<std::unique_ptr<peer>> peers_;
  sluice::task_handle handle_;
  int told_ = 0;
  moved moved_;
};

}  // namespace every_path
