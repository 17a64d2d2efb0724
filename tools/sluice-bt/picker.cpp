#include "picker.hpp"

#include <algorithm>
#include <utility>

namespace bt {

namespace {
constexpr unsigned first_age_max = 6;  // half a minute
constexpr unsigned last_age_max = 1U << 16;
}  // namespace

picker::picker(const layout& of)
    : layout_(of), have_(of.pieces()), sources_(of.pieces()), suspect_(of.pieces()) {
  for (std::uint32_t piece = 0; piece < of.pieces(); ++piece)
    missing_.emplace_hint(missing_.end(), 0, piece);
}

void picker::count_source(std::uint32_t piece, int change) {
  const std::uint32_t before = sources_[piece];
  sources_[piece] = before + static_cast<std::uint32_t>(change);
  auto node = missing_.extract({before, piece});
  if (node.empty()) return;
  node.value().first = sources_[piece];
  missing_.insert(std::move(node));
}

void picker::add_source(const bitfield& has) {
  for (std::uint32_t piece = 0; piece < has.size(); ++piece) {
    if (has.has(piece)) count_source(piece, 1);
  }
}

void picker::add_piece_of_source(std::uint32_t piece) { count_source(piece, 1); }

void picker::remove_source(const bitfield& has) {
  for (std::uint32_t piece = 0; piece < has.size(); ++piece) {
    if (has.has(piece)) count_source(piece, -1);
  }
}

picker::active_piece* picker::find(std::uint32_t piece) const {
  const auto at = std::ranges::find(active_, piece, [](const auto& a) { return a->piece; });
  return at == active_.end() ? nullptr : at->get();
}

picker::active_piece* picker::begin_piece(source_id source, const bitfield& has) {
  const auto at =
      std::ranges::find_if(missing_, [&](const auto& row) { return has.has(row.second); });
  if (at == missing_.end()) return nullptr;
  auto made = std::make_unique<active_piece>();
  made->piece = at->second;
  made->owner = source;
  made->alone = suspect_[at->second];
  made->age_max = first_age_max;
  made->wanted = made->missing = layout_.blocks_of(at->second);
  made->blocks.resize(made->wanted);
  missing_.erase(at);
  return active_.emplace_back(std::move(made)).get();
}

// One it has begun; one that nobody goes on with; a new one; or to help another source.
picker::active_piece* picker::choose(source_id source, const bitfield& has) {
  active_piece* left = nullptr;
  active_piece* helped = nullptr;
  for (const auto& one : active_) {
    if (one->wanted == 0 || !has.has(one->piece)) continue;
    if (one->owner == source) return one.get();
    if (one->owner == 0 && left == nullptr) left = one.get();
    if (!one->alone) helped = one.get();
  }
  if (left != nullptr) {
    left->owner = source;
    return left;
  }
  active_piece* fresh = begin_piece(source, has);
  return fresh != nullptr ? fresh : helped;
}

block_ref picker::ref_of(const active_piece& of, std::size_t index) const {
  const auto begin = static_cast<std::uint32_t>(index * block_bytes);
  const std::uint64_t left = layout_.bytes_of(of.piece) - begin;
  return {of.piece, begin, static_cast<std::uint32_t>(std::min<std::uint64_t>(left, block_bytes))};
}

std::optional<block_ref> picker::owed_by_others(source_id source, const bitfield& has) {
  if (!missing_.empty()) return std::nullopt;
  for (const auto& one : active_) {
    if (one->alone || !has.has(one->piece)) continue;
    for (std::size_t i = 0; i < one->blocks.size(); ++i) {
      block& b = one->blocks[i];
      if (b.state != block_state::asked || b.first == source || b.second != 0) continue;
      b.second = source;
      return ref_of(*one, i);
    }
  }
  return std::nullopt;
}

std::optional<block_ref> picker::next(source_id source, const bitfield& has, duplicates allowed) {
  active_piece* from = choose(source, has);
  if (from == nullptr)
    return allowed == duplicates::no ? std::nullopt : owed_by_others(source, has);
  const auto at = std::ranges::find(from->blocks, block_state::wanted, &block::state);
  *at = {block_state::asked, source, 0};
  --from->wanted;
  return ref_of(*from, static_cast<std::size_t>(at - from->blocks.begin()));
}

void picker::give_back(source_id source, const block_ref& ref) {
  active_piece* of = find(ref.piece);
  if (of == nullptr) return;
  block& b = of->blocks[ref.begin / block_bytes];
  if (b.state != block_state::asked) return;
  if (b.second == source) b.second = 0;
  if (b.first != source) return;
  b.first = std::exchange(b.second, 0);
  if (b.first != 0) return;
  b.state = block_state::wanted;
  ++of->wanted;
}

std::vector<std::uint32_t> picker::release(source_id source) {
  std::vector<std::uint32_t> begun_anew;
  for (const auto& one : active_) {
    if (one->owner != source || one->missing == 0) continue;
    one->owner = 0;
    if (!one->alone) continue;
    begin_anew(*one);
    begun_anew.push_back(one->piece);
  }
  return begun_anew;
}

// What one source has sent of it must not be mixed with what another one sends.
void picker::begin_anew(active_piece& one) {
  std::ranges::fill(one.blocks, block{});
  one.wanted = one.missing = static_cast<std::uint32_t>(one.blocks.size());
  one.age = 0;
}

bool picker::grow_older(source_id source) {
  bool late = false;
  for (const auto& one : active_) {
    if (!one->alone || one->owner != source || one->missing == 0) continue;
    one->age = std::min(one->age + 1, last_age_max);
    late = late || one->age >= one->age_max;
  }
  return late;
}

std::optional<picker::overdue> picker::find_overdue(source_id source, const bitfield& has) const {
  for (const auto& one : active_) {
    const bool of_another = one->owner != 0 && one->owner != source;
    const bool late = one->alone && one->missing > 0 && one->age >= one->age_max;
    if (of_another && late && has.has(one->piece)) return overdue{one->piece, one->owner};
  }
  return std::nullopt;
}

void picker::take_over(source_id source, std::uint32_t piece) {
  active_piece* one = find(piece);
  if (one == nullptr) return;
  begin_anew(*one);
  one->owner = source;
  // When all are slow, one of them gets the time it needs in the end.
  one->age_max = std::min(2 * one->age_max, last_age_max);
}

picker::arrival picker::arrived(source_id source, const block_ref& ref) {
  active_piece* of = find(ref.piece);
  if (of == nullptr) return {};
  block& b = of->blocks[ref.begin / block_bytes];
  if (b.state != block_state::asked || (b.first != source && b.second != source)) return {};
  const source_id other = b.first == source ? b.second : b.first;
  b = {block_state::here, source, 0};
  --of->missing;
  return {true, other, of->missing == 0};
}

void picker::verified(std::uint32_t piece) {
  std::erase_if(active_, [piece](const auto& one) { return one->piece == piece; });
  missing_.erase({sources_[piece], piece});
  if (have_.has(piece)) return;
  have_.set(piece);
  ++have_count_;
}

std::vector<source_id> picker::senders(std::uint32_t piece) const {
  std::vector<source_id> all;
  const active_piece* of = find(piece);
  if (of == nullptr) return all;
  for (const block& b : of->blocks) all.push_back(b.first);
  return all;
}

void picker::rejected(std::uint32_t piece) {
  std::erase_if(active_, [piece](const auto& one) { return one->piece == piece; });
  missing_.emplace(sources_[piece], piece);
  suspect_[piece] = true;
}

std::uint64_t picker::blocks_here() const {
  std::uint64_t here = std::uint64_t{have_count_} * layout_.blocks_of(0);
  for (const auto& one : active_) here += one->blocks.size() - one->missing;
  return here;
}

bool picker::received_all() const {
  const auto whole = [](const auto& one) { return one->missing == 0; };
  return missing_.empty() && std::ranges::all_of(active_, whole);
}

bool picker::wants_any(const bitfield& of) const {
  for (std::uint32_t piece = 0; piece < of.size(); ++piece) {
    if (of.has(piece) && !have_.has(piece)) return true;
  }
  return false;
}

}  // namespace bt
