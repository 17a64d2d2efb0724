// Digests of bodies, RFC 9530: what the peer promises, what it wants to know, and what came out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "refusal.hpp"
#include "request.hpp"
#include "sluice/body_check.hpp"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace sluiced {

// Those that RFC 9530 calls active; every other is ignored, as it asks for.
enum class digest_algorithm : std::uint8_t { sha_256, sha_512 };
inline constexpr std::array digest_algorithms{digest_algorithm::sha_256, digest_algorithm::sha_512};

struct digest {
  digest_algorithm algorithm = digest_algorithm::sha_256;
  std::string bytes;  // 32 or 64 of them
  friend bool operator==(const digest&, const digest&) = default;
};

// As it stands in a field: `sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:`.
[[nodiscard]] std::string format_digest(const digest& d);
[[nodiscard]] std::string format_digests(std::span<const digest> all);
// The digests of a field, unknown algorithms left out. Nothing: it is malformed.
[[nodiscard]] std::optional<std::vector<digest>> parse_digests(std::string_view field);
// The algorithms of a Want-Repr-Digest, the most wanted first. None when it is malformed: it is but
// a wish.
[[nodiscard]] std::vector<digest_algorithm> parse_wanted(std::string_view field);
// The line "Repr-Digest: ...\r\n" with those of `known` that are wanted; "" without any.
[[nodiscard]] std::string format_repr_digest(std::span<const digest_algorithm> wanted,
                                             std::span<const digest> known);

// A digest that a request says its body has.
struct digest_promise {
  std::string_view field;  // the field that says so; a literal
  digest promised;
};
// Of Content-Digest and Repr-Digest: no content coding is known here, so that both mean the body as
// it is. 400: a field that is no dictionary of digests.
[[nodiscard]] std::expected<std::vector<digest_promise>, refusal> promises_of(const request& asked);

// Compares a body with what was promised. ENOMEM when OpenSSL has no memory.
class digest_check final : public sluice::body_check {
 public:
  explicit digest_check(std::vector<digest_promise> promises);
  ~digest_check() override;

  // What a transfer is given: nothing when nothing was promised.
  [[nodiscard]] sluice::body_check* if_promised() { return promises_.empty() ? nullptr : this; }

  [[nodiscard]] sluice::result<void> update(std::span<const std::byte> bytes) noexcept override;
  [[nodiscard]] sluice::result<void> finish() noexcept override;

  // After the transfer. One of each algorithm that was promised, and all of them as promised; none
  // when the body was refused or did not arrive whole.
  [[nodiscard]] const std::vector<digest>& verified() const { return verified_; }
  // After code::refused_by_check: what was promised and what came, for the peer.
  [[nodiscard]] refusal explain_mismatch() const;

 private:
  struct context_free {
    void operator()(evp_md_ctx_st* c) const;
  };
  struct hash {
    digest computed;
    std::unique_ptr<evp_md_ctx_st, context_free> context;  // null: no memory for it
  };
  void add_hash(digest_algorithm algorithm);
  [[nodiscard]] const digest& computed(digest_algorithm algorithm) const;

  std::vector<digest_promise> promises_;
  std::vector<hash> hashes_;  // one of each algorithm
  std::vector<digest> verified_;
  const digest_promise* broken_ = nullptr;
};

}  // namespace sluiced
