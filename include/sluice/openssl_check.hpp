// A body_check by a digest of OpenSSL: SHA-1, SHA-256 and whatever else EVP_MD names. Not part of
// the library: who includes this needs OpenSSL's headers and links libcrypto (1.1 or newer).
#pragma once

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "sluice/body_check.hpp"

namespace sluice {

// Digests a body; refuses it (code::refused_by_check) when the digest is not the expected one.
// ENOMEM when OpenSSL cannot begin. One object judges one body.
class openssl_check final : public body_check {
 public:
  // `algorithm` as EVP_sha1() gives it; an `expected` digest has its length in bytes, or nothing
  // passes. Without one every body passes, and digest() tells what it was.
  explicit openssl_check(const EVP_MD* algorithm, std::span<const std::byte> expected = {})
      : expected_(expected.begin(), expected.end()), context_(EVP_MD_CTX_new()) {
    ready_ = context_ && EVP_DigestInit_ex(context_.get(), algorithm, nullptr) == 1;
  }

  [[nodiscard]] result<void> update(std::span<const std::byte> bytes) noexcept override {
    if (!ready_ || EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1)
      return fail(ENOMEM, "EVP_DigestUpdate", "openssl_check");
    return {};
  }

  [[nodiscard]] result<void> finish() noexcept override {
    unsigned int length = 0;
    auto* out = reinterpret_cast<unsigned char*>(computed_.data());
    if (!ready_ || EVP_DigestFinal_ex(context_.get(), out, &length) != 1)
      return fail(ENOMEM, "EVP_DigestFinal_ex", "openssl_check");
    ready_ = false;
    length_ = length;
    const bool as_expected =
        expected_.empty() || (expected_.size() == length_ &&
                              CRYPTO_memcmp(expected_.data(), computed_.data(), length_) == 0);
    if (!as_expected) return fail(code::refused_by_check, "digest", "not the expected one");
    return {};
  }

  // Of the whole body, also of a refused one; empty before its end.
  [[nodiscard]] std::span<const std::byte> digest() const {
    return std::span(computed_).first(length_);
  }

 private:
  struct context_free {
    void operator()(EVP_MD_CTX* c) const { EVP_MD_CTX_free(c); }
  };
  std::vector<std::byte> expected_;
  std::unique_ptr<EVP_MD_CTX, context_free> context_;
  bool ready_ = false;
  std::array<std::byte, EVP_MAX_MD_SIZE> computed_{};
  std::size_t length_ = 0;
};

}  // namespace sluice
