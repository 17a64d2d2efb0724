#include "digest.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <utility>

#include "dictionary.hpp"

namespace sluiced {

namespace {

struct algorithm_row {
  digest_algorithm algorithm;
  std::string_view key;  // in RFC 9530's registry
  std::size_t bytes;
  const EVP_MD* (*implementation)();
};

constexpr std::array rows{
    algorithm_row{digest_algorithm::sha_256, "sha-256", 32, EVP_sha256},
    algorithm_row{digest_algorithm::sha_512, "sha-512", 64, EVP_sha512},
};
static_assert(rows.size() == digest_algorithms.size());

const algorithm_row& row_of(digest_algorithm algorithm) {
  return *std::ranges::find(rows, algorithm, &algorithm_row::algorithm);
}

const algorithm_row* row_of(std::string_view key) {
  const auto* found = std::ranges::find(rows, key, &algorithm_row::key);
  return found == rows.end() ? nullptr : found;
}

unsigned char* octets(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* octets(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string to_base64(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL ends it with NUL
  const int length = EVP_EncodeBlock(octets(text), octets(bytes), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

// With or without its padding (RFC 8941 section 4.2.7). `text` has no other bytes than base64's.
std::optional<std::string> from_base64(std::string_view text) {
  std::string padded(text.substr(0, text.find_last_not_of('=') + 1));
  const std::size_t bytes = padded.size() * 3 / 4;
  if (padded.find('=') != padded.npos || padded.size() % 4 == 1) return std::nullopt;
  padded.resize((padded.size() + 3) / 4 * 4, '=');
  if (text.size() > padded.size()) return std::nullopt;  // more padding than there can be
  std::string decoded(padded.size() / 4 * 3, '\0');
  if (EVP_DecodeBlock(octets(decoded), octets(padded), static_cast<int>(padded.size())) < 0)
    return std::nullopt;
  decoded.resize(bytes);
  return decoded;
}

// 0 to 10, 0 for "not this one" (RFC 9530 section 4); anything else is no preference.
int preference_of(const member& m) {
  int value = 0;
  if (m.kind != item_kind::integer) return 0;
  const auto [end, problem] =
      std::from_chars(m.value.data(), m.value.data() + m.value.size(), value);
  return problem == std::errc() && value <= 10 ? value : 0;
}

std::expected<void, refusal> add_promises(std::string_view name,
                                          const std::optional<std::string>& field,
                                          std::vector<digest_promise>& promises) {
  if (!field) return {};
  std::optional<std::vector<digest>> parsed = parse_digests(*field);
  if (!parsed)
    return refuse(400,
                  fmt::format("{} is malformed; write it as sha-256=:BASE64: (RFC 9530)", name));
  for (digest& d : *parsed) promises.push_back({name, std::move(d)});
  return {};
}

}  // namespace

std::string format_digest(const digest& d) {
  return fmt::format("{}=:{}:", row_of(d.algorithm).key, to_base64(d.bytes));
}

std::string format_digests(std::span<const digest> all) {
  std::string text;
  for (const digest& d : all) text.append(text.empty() ? "" : ", ").append(format_digest(d));
  return text;
}

std::optional<std::vector<digest>> parse_digests(std::string_view field) {
  const std::optional<std::vector<member>> members = parse_dictionary(field);
  if (!members) return std::nullopt;
  std::vector<digest> digests;
  for (const member& m : *members) {
    const algorithm_row* row = row_of(m.key);
    if (row == nullptr) continue;
    if (m.kind != item_kind::bytes) return std::nullopt;
    std::optional<std::string> bytes = from_base64(m.value);
    if (!bytes || bytes->size() != row->bytes) return std::nullopt;
    digests.push_back({row->algorithm, std::move(*bytes)});
  }
  return digests;
}

std::vector<digest_algorithm> parse_wanted(std::string_view field) {
  const std::optional<std::vector<member>> members = parse_dictionary(field);
  if (!members) return {};
  std::vector<std::pair<int, digest_algorithm>> ranked;
  for (const member& m : *members) {
    const algorithm_row* row = row_of(m.key);
    if (row != nullptr && preference_of(m) > 0)
      ranked.emplace_back(preference_of(m), row->algorithm);
  }
  std::ranges::stable_sort(ranked, std::ranges::greater(),
                           &std::pair<int, digest_algorithm>::first);
  std::vector<digest_algorithm> wanted;
  for (const auto& [preference, algorithm] : ranked) wanted.push_back(algorithm);
  return wanted;
}

std::string format_repr_digest(std::span<const digest_algorithm> wanted,
                               std::span<const digest> known) {
  std::vector<digest> told;
  for (const digest_algorithm algorithm : wanted) {
    const auto found = std::ranges::find(known, algorithm, &digest::algorithm);
    if (found != known.end()) told.push_back(*found);
  }
  return told.empty() ? "" : fmt::format("Repr-Digest: {}\r\n", format_digests(told));
}

std::expected<std::vector<digest_promise>, refusal> promises_of(const request& asked) {
  std::vector<digest_promise> promises;
  std::expected<void, refusal> sound =
      add_promises("Content-Digest", asked.content_digest, promises);
  if (sound) sound = add_promises("Repr-Digest", asked.repr_digest, promises);
  if (!sound) return std::unexpected(sound.error());
  return promises;
}

void digest_check::context_free::operator()(EVP_MD_CTX* c) const { EVP_MD_CTX_free(c); }

digest_check::digest_check(std::vector<digest_promise> promises) : promises_(std::move(promises)) {
  for (const digest_algorithm algorithm : digest_algorithms) {
    const auto is_it = [algorithm](const digest_promise& p) {
      return p.promised.algorithm == algorithm;
    };
    if (std::ranges::any_of(promises_, is_it)) add_hash(algorithm);
  }
  verified_.reserve(hashes_.size());  // the calls on the worker allocate nothing
}

digest_check::~digest_check() = default;

void digest_check::add_hash(digest_algorithm algorithm) {
  const algorithm_row& row = row_of(algorithm);
  hash h{{algorithm, std::string(row.bytes, '\0')}, {}};
  h.context.reset(EVP_MD_CTX_new());
  if (h.context && EVP_DigestInit_ex(h.context.get(), row.implementation(), nullptr) != 1)
    h.context.reset();
  hashes_.push_back(std::move(h));
}

sluice::result<void> digest_check::update(std::span<const std::byte> bytes) noexcept {
  for (const hash& h : hashes_) {
    if (!h.context || EVP_DigestUpdate(h.context.get(), bytes.data(), bytes.size()) != 1)
      return sluice::fail(ENOMEM, "EVP_DigestUpdate", "digest of the body");
  }
  return {};
}

sluice::result<void> digest_check::finish() noexcept {
  for (hash& h : hashes_) {
    if (!h.context || EVP_DigestFinal_ex(h.context.get(), octets(h.computed.bytes), nullptr) != 1)
      return sluice::fail(ENOMEM, "EVP_DigestFinal_ex", "digest of the body");
  }
  for (const digest_promise& p : promises_) {
    if (computed(p.promised.algorithm) == p.promised) continue;
    broken_ = &p;
    return sluice::fail(sluice::code::refused_by_check, "digest", "the body");
  }
  for (const hash& h : hashes_) verified_.push_back(h.computed);
  return {};
}

const digest& digest_check::computed(digest_algorithm algorithm) const {
  const auto is_it = [algorithm](const hash& h) { return h.computed.algorithm == algorithm; };
  return std::ranges::find_if(hashes_, is_it)->computed;
}

refusal digest_check::explain_mismatch() const {
  assert(broken_ != nullptr);
  return {400, fmt::format("the body is not what {} promised: {} was promised, {} is what came; "
                           "nothing of this upload was kept",
                           broken_->field, format_digest(broken_->promised),
                           format_digest(computed(broken_->promised.algorithm)))};
}

}  // namespace sluiced
