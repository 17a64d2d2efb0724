#include "peer.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "session.hpp"

namespace bt {

using sluice::result;
using sluice::task;

namespace {

constexpr std::chrono::seconds greeting_time{10};
constexpr std::chrono::seconds tick_time_max{5};
constexpr std::chrono::seconds silence_max{150};
// Beyond what was under way when it choked us or we took a request back; more is an attack.
constexpr std::uint64_t unwanted_bytes_max = 64 << 20;
constexpr std::size_t few_asked = 8;

// The receiver had no block to receive into, so the peer may have sent what it could.
bool lacked_memory(const sluice::error& why) {
  return why.code == ETIMEDOUT && std::string_view(why.op) == "lease";
}

}  // namespace

peer::peer(session& home, sluice::stream stream, std::string name, source_id id)
    : home_(home),
      stream_(std::move(stream)),
      name_(std::move(name)),
      id_(id),
      has_(home.where().pieces()),
      pace_(clock::now()),
      last_heard_(clock::now()),
      last_block_(last_heard_),
      last_sent_(last_heard_) {
  limits_.bitfield_bytes = has_.bytes().size();
  limits_.block_bytes_max = home_.fetches() ? block_bytes : 0;
}

task<peer_end> peer::run(std::shared_ptr<peer> self, who_called first) {
  std::optional<peer_end> refusal = co_await self->greet(first);
  if (refusal) co_return *std::move(refusal);
  self->end_.greeted = true;
  self->home_.joined(self);
  self->introduce();
  co_await self->read_all();
  self->leave();
  co_return self->end_;
}

task<std::optional<peer_end>> peer::greet(who_called first) {
  const std::array<std::byte, handshake_bytes> ours = write_handshake(home_.own_handshake());
  std::array<std::byte, handshake_bytes> theirs{};
  if (first == who_called::we) {
    const result<std::size_t> sent = co_await stream_.send(ours, greeting_time);
    if (!sent) co_return peer_end{sluice::describe(sent.error())};
  }
  const result<std::size_t> got =
      co_await stream_.recv(theirs, sluice::recv_mode::full, greeting_time);
  if (!got && got.error().code == ETIMEDOUT) co_return peer_end{"it does not answer"};
  const bool ended = got ? *got < theirs.size() : got.error().code == ECONNRESET;
  // It may be full, too, and have room the next time.
  if (ended)
    co_return peer_end{
        "it closed the connection in the handshake: it may not have this torrent, "
        "have no room, or want encryption"};
  if (!got) co_return peer_end{sluice::describe(got.error())};
  const auto read = read_handshake(theirs);
  if (!read) co_return peer_end{read.error(), false, true};
  if (read->info_hash != home_.own_handshake().info_hash)
    co_return peer_end{"it has another torrent", false, true};
  if (read->id == home_.own_handshake().id) co_return peer_end{"it is this program", false, true};
  if (first == who_called::they) {
    const result<std::size_t> sent = co_await stream_.send(ours, greeting_time);
    if (!sent) co_return peer_end{sluice::describe(sent.error())};
  }
  co_return std::nullopt;
}

void peer::introduce() {
  const bitfield& have = home_.blocks().have();
  if (home_.blocks().have_count() > 0) append_bitfield(out_, have.bytes());
  flush();
}

task<void> peer::read_all() {
  const std::chrono::seconds tick_time = std::min(tick_time_max, home_.answer_time());
  sluice::frame_receiver receiver(home_.engine(), stream_, wire_protocol(limits_));
  while (!closing_) {
    result<sluice::frame> got = co_await receiver.next(tick_time);
    if (closing_) break;
    lacks_memory_ = !got && lacked_memory(got.error());
    if (lacks_memory_) {
      pardon();
    } else if (!got && got.error().code == ETIMEDOUT) {
      // Looked at below.
    } else if (!got && got.error().code == sluice::code::bad_frame) {
      close("it sent a message that BitTorrent does not have", true);
    } else if (!got) {
      close(sluice::describe(got.error()), false);
    } else if (!*got) {
      close("it closed the connection", false);
    } else {
      last_heard_ = clock::now();
      co_await take(*std::move(got));
    }
    // A peer that says anything now and then is looked at all the same.
    if (clock::now() - last_tick_ >= tick_time) tick();
  }
  frames_ = receiver.stats();
}

// The time until now was ours.
void peer::pardon() { last_heard_ = last_block_ = clock::now(); }

void peer::tick() {
  const clock::time_point now = clock::now();
  last_tick_ = now;
  if (!asked_.empty() && now - last_block_ > home_.answer_time())
    return close("it does not send what it was asked for", false);
  if (now - last_heard_ > silence_max) return close("it says nothing any more", false);
  if (home_.blocks().grow_older(id_)) home_.ask_all();
  if (now - last_sent_ < home_.keep_alive_time()) return;
  append_message(out_, message_kind::keep_alive);
  flush();
}

task<void> peer::take(sluice::frame f) {
  const message m = read_message(f.head);
  if (m.kind == message_kind::piece) {
    co_await take_block(std::move(f), m);
  } else if (m.kind == message_kind::bitfield) {
    take_bitfield(f);
  } else {
    take_message(m);
  }
}

void peer::take_message(const message& m) {
  switch (m.kind) {
    case message_kind::choke: choked(); break;
    case message_kind::unchoke:
      if (std::exchange(chokes_us_, false)) last_block_ = clock::now();
      ask();
      break;
    case message_kind::interested:
      if (!std::exchange(unchoked_, true)) append_message(out_, message_kind::unchoke);
      flush();
      break;
    case message_kind::have: take_have(m.index); break;
    case message_kind::request: take_request(m); break;
    case message_kind::cancel: std::erase(wanted_, wanted{m.index, m.begin, m.length}); break;
    default: break;  // nothing to be done
  }
  const bool early = m.kind == message_kind::keep_alive || m.kind == message_kind::unknown;
  if (!early) has_bitfield_ = true;
}

// May come in parts.
void peer::take_bitfield(sluice::frame& f) {
  if (f.payload_offset == 0 && std::exchange(has_bitfield_, true))
    return close("its bitfield did not come first", true);
  arriving_bitfield_.insert(arriving_bitfield_.end(), f.payload.begin(), f.payload.end());
  if (!f.last_part()) return;
  bitfield whole(has_.size());
  if (!whole.assign(arriving_bitfield_)) return close("its bitfield has too many bits", true);
  arriving_bitfield_ = {};
  has_ = std::move(whole);
  home_.blocks().add_source(has_);
  if (home_.blocks().wants_any(has_)) become_interested();
}

void peer::take_have(std::uint32_t piece) {
  if (piece >= has_.size()) return close("it has a piece that the torrent does not have", true);
  if (has_.has(piece)) return;
  has_.set(piece);
  home_.blocks().add_piece_of_source(piece);
  // Most are of what we have, where many fetch it at the same time.
  if (home_.blocks().have().has(piece)) return;
  become_interested();
  ask();
}

void peer::become_interested() {
  if (!home_.fetches() || std::exchange(we_are_interested_, true)) return;
  append_message(out_, message_kind::interested);
  flush();
}

void peer::choked() {
  chokes_us_ = true;
  std::deque<asked> lost = std::exchange(asked_, {});
  for (const asked& one : lost) {
    taken_back_bytes_ += one.block.bytes;
    home_.blocks().give_back(id_, one.block);
  }
  for (const std::uint32_t piece : home_.blocks().release(id_)) home_.checker().forget(piece);
  home_.ask_all();
}

void peer::ask() {
  if (chokes_us_ || closing_ || !we_are_interested_ || !home_.fetches()) return;
  const std::size_t depth = pace_.depth();
  if (asked_.size() > depth - depth / 4) return;  // many requests in one send
  const clock::time_point now = clock::now();
  if (asked_.empty()) last_block_ = now;
  while (asked_.size() < depth) {
    const duplicates allowed = asked_.size() < few_asked ? duplicates::at_the_end : duplicates::no;
    const std::optional<block_ref> block = home_.blocks().next(id_, has_, allowed);
    if (!block && asked_.empty() && take_over()) continue;
    if (!block) break;
    append_request(out_, message_kind::request, block->piece, block->begin, block->bytes);
    asked_.push_back({*block, now});
  }
  flush();
}

// Goes on with a piece that another one was to send alone and is too slow with. True: there is one.
bool peer::take_over() {
  const std::optional<picker::overdue> late = home_.blocks().find_overdue(id_, has_);
  if (!late) return false;
  peer* slow = home_.find(late->owner);
  if (slow != nullptr && !slow->lose(late->piece)) return false;
  home_.blocks().take_over(id_, late->piece);
  home_.checker().forget(late->piece);
  return true;
}

bool peer::lose(std::uint32_t piece) {
  if (storing_) return false;
  std::vector<block_ref> lost;
  for (const asked& one : asked_) {
    if (one.block.piece == piece) lost.push_back(one.block);
  }
  for (const block_ref& block : lost) take_back(block);
  return true;
}

void peer::take_back(const block_ref& block) {
  const auto at = std::ranges::find(asked_, block, &asked::block);
  if (at == asked_.end()) return;
  asked_.erase(at);
  taken_back_bytes_ += block.bytes;
  append_request(out_, message_kind::cancel, block.piece, block.begin, block.bytes);
  flush();
}

// A small one occupies its share of a block, too. Not every block that was taken back comes, so
// that which one it is does not matter.
void peer::count_unwanted(std::size_t payload_bytes) {
  const std::uint64_t bytes = std::max<std::uint64_t>(payload_bytes, block_bytes);
  const std::uint64_t forgiven = std::min(bytes, taken_back_bytes_);
  taken_back_bytes_ -= forgiven;
  unwanted_bytes_ += bytes - forgiven;
  if (unwanted_bytes_ > unwanted_bytes_max) close("it sends what nobody asked for", true);
}

task<void> peer::take_block(sluice::frame f, const message& m) {
  const block_ref ref{m.index, m.begin, static_cast<std::uint32_t>(f.payload.size())};
  const auto at = std::ranges::find(asked_, ref, &asked::block);
  if (at == asked_.end()) {
    count_unwanted(f.payload.size());
    co_return;
  }
  last_block_ = clock::now();
  pace_.arrived(ref.bytes, last_block_ - at->when, last_block_);
  asked_.erase(at);
  const picker::arrival arrival = home_.blocks().arrived(id_, ref);
  ask();
  if (!arrival.wanted) co_return;
  if (peer* other = home_.find(arrival.other)) other->take_back(ref);
  const std::uint64_t offset = home_.where().piece_offset(ref.piece) + ref.begin;
  home_.files().clear_pads(f.payload, offset);
  const std::span<const std::byte> bytes = f.payload;
  sluice::lease shared = f.block.part(0, ref.bytes);
  result<bool> written = home_.files().try_write(f.block, bytes, offset);
  if (written && !*written) {
    storing_ = true;
    const result<void> done = co_await home_.files().write(std::move(f.block), bytes, offset);
    storing_ = false;
    pardon();
    if (!done) written = std::unexpected(done.error());
  }
  if (!written) co_return home_.fail(sluice::describe(written.error()));
  home_.counts().received_bytes += ref.bytes;
  end_.received_bytes += ref.bytes;
  home_.checker().arrived(ref.piece, ref.begin, std::move(shared), bytes);
}

void peer::take_request(const message& m) {
  const bool possible = home_.where().contains(m.index, m.begin, m.length);
  if (!possible || m.length > request_bytes_max || !home_.blocks().have().has(m.index))
    return close("it asked for what is not there", true);
  if (!unchoked_) return;
  if (wanted_.size() == requests_max) return close("it asks for too much at a time", true);
  wanted_.push_back({m.index, m.begin, m.length});
  flush();
}

void peer::announce(std::uint32_t piece) {
  if (closing_) return;
  append_have(out_, piece);
  flush();
}

void peer::close(std::string why, bool hopeless) {
  if (std::exchange(closing_, true)) return;
  end_.why = std::move(why);
  end_.hopeless = hopeless;
  static_cast<void>(stream_.shutdown(SHUT_RDWR));
}

void peer::leave() {
  home_.left(id_);
  home_.blocks().remove_source(has_);
  choked();
}

}  // namespace bt
