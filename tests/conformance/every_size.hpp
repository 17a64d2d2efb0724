// Many lengths by one route, one after the other on one connection: what a transfer takes too much
// or leaves behind is missing or foreign in the next one.
#pragma once

#include "conformance/every_path.hpp"

namespace every_path {

// A stream or file of the pattern, cut into pieces of these lengths.
struct pieces {
  std::uint64_t seed = 0;
  std::vector<std::uint64_t> lengths;
  [[nodiscard]] std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t length : lengths) sum += length;
    return sum;
  }
};

// Whether the file has exactly these bytes.
inline sluice::task<bool> has_exactly(sluice::file& f, content c) {
  std::vector<std::byte> seen(c.length + 1);
  sluice::op_await reading = f.read(seen, 0);
  const sluice::result<std::size_t> got = co_await reading;
  if (!got || *got != c.length) co_return false;
  seen.resize(c.length);
  co_return support::is_pattern(seen, c.seed, c.offset);
}

// All of it, by the way that was asked for.
inline bool moved_by(const route& by, const sluice::result<sluice::receipt>& told,
                     std::uint64_t bytes) {
  return told && told->bytes == bytes && std::string_view(name(told->path)) == by.path;
}

// These tell how many pieces came out right before the first that did not.
inline sluice::task<std::size_t> receive_each(sluice::engine& e, const route& by,
                                              sluice::stream from, std::string folder,
                                              const pieces& p) {
  std::uint64_t offset = 0;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  for (std::size_t i = 0; i < p.lengths.size(); ++i) {
    const content wanted{p.seed, p.lengths[i], offset};
    sluice::result<sluice::file> into = co_await in->create();
    sluice::receive_options options = of_length(wanted.length);
    options.cache = by.cache;
    const sluice::result<sluice::receipt> got =
        co_await sluice::receive_to_file(from, *into, options);
    if (!moved_by(by, got, wanted.length)) co_return i;
    const bool right = co_await has_exactly(*into, wanted);
    if (!right) co_return i;
    offset += wanted.length;
  }
  co_return p.lengths.size();
}

inline sluice::task<std::size_t> send_each(sluice::engine& e, const route& by, sluice::stream to,
                                           std::string folder, const pieces& p) {
  const std::string name = "source";
  sluice::send_options options;
  options.cache = by.cache;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  sluice::result<sluice::file> from = co_await in->open_file(name);
  for (std::size_t i = 0; i < p.lengths.size(); ++i) {
    options.length = p.lengths[i];
    const sluice::result<sluice::receipt> sent =
        co_await sluice::send_from_file(to, *from, options);
    if (!moved_by(by, sent, options.length)) co_return i;
    options.offset += options.length;
  }
  co_return p.lengths.size();
}

inline sluice::task<std::size_t> copy_each(sluice::engine& e, const route& by, std::string folder,
                                           const pieces& p) {
  const std::string name = "source";
  std::uint64_t offset = 0;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  sluice::result<sluice::file> from = co_await in->open_file(name);
  for (std::size_t i = 0; i < p.lengths.size(); ++i) {
    const content wanted{p.seed, p.lengths[i], offset};
    sluice::result<sluice::file> into = co_await in->create();
    const sluice::copy_options range{
        .length = wanted.length, .source_offset = offset, .cache = by.cache};
    const sluice::result<sluice::receipt> copied = co_await sluice::copy_file(*from, *into, range);
    if (!moved_by(by, copied, wanted.length)) co_return i;
    const bool right = co_await has_exactly(*into, wanted);
    if (!right) co_return i;
    offset += wanted.length;
  }
  co_return p.lengths.size();
}

// Of whole files: only their ends are shared as part of a block.
inline std::size_t share_each(world& w, const route& by, const pieces& p) {
  std::uint64_t seed = p.seed;
  for (const std::uint64_t length : p.lengths) {
    CAPTURE(length);
    const content c{++seed, length};
    make_source(w.at("source"), c);
    transfer t(w, by, c, transfer::local());
    t.finish();
    t.check_whole();
    std::filesystem::remove(w.at("source"));
  }
  return p.lengths.size();
}

inline std::size_t relay_each(world& w, const route& by, const pieces& p) {
  std::uint64_t offset = 0;
  for (const std::uint64_t length : p.lengths) {
    CAPTURE(length);
    transfer t(w, by, {p.seed, length, offset}, transfer::local());
    t.finish();
    t.check_whole();
    offset += length;
  }
  return p.lengths.size();
}

inline std::size_t move_each(world& w, const route& by, const pieces& p) {
  sluice::engine& e = w.engine();
  const std::string folder = w.folder().path().string();
  const content all{p.seed, p.total()};
  stream_pair ends = stream_pair::tcp();
  std::size_t right = 0;
  switch (by.kind) {
    case move::receive: {
      peer giver(ends.take_theirs(), [all](int fd) { give(fd, all); });
      right = w.run(receive_each(e, by, adopt(e, ends.take_ours()), folder, p), 600s);
      giver.join(w);
      return right;
    }
    case move::send: {
      taken t;
      make_source(w.at("source"), all);
      peer taker(ends.take_theirs(), [&t, all](int fd) { t = take_from_peer(fd, all); });
      right = w.run(send_each(e, by, adopt(e, ends.take_ours()), folder, p), 600s);
      taker.join(w);
      CHECK(t.bytes == all.length);
      CHECK(t.right);
      return right;
    }
    case move::relay: return relay_each(w, by, p);
    default:
      if (by.is_shared) return share_each(w, by, p);
      make_source(w.at("source"), all);
      return w.run(copy_each(e, by, folder, p), 600s);
  }
}

// By every route that is wanted, in every setting.
template <class Wanted>
void move_each(const std::vector<setting>& settings, const pieces& p, Wanted wanted) {
  for_each(settings, {}, wanted, [&p](world& w, const route& by) {
    const std::size_t right = move_each(w, by, p);
    if (right == p.lengths.size()) return;
    FAIL_CHECK("a transfer of ", p.lengths[right], " bytes failed or came out wrong");
  });
}
inline void move_each(const std::vector<setting>& settings, const pieces& p) {
  move_each(settings, p, [](const route&) { return true; });
}

}  // namespace every_path
