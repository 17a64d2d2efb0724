// SHA-1 by OpenSSL, as BitTorrent version 1 uses it.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>

namespace bt {

using sha1_digest = std::array<std::byte, 20>;

// A digest in the making. One thread at a time; no limit of bytes. Without memory at the beginning
// every digest is all zeroes, which no piece has.
class sha1 {
 public:
  sha1();
  void update(std::span<const std::byte> bytes);
  [[nodiscard]] sha1_digest finish();  // and begins anew

 private:
  struct freed {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, freed> context_;
  bool sound_ = false;
};

[[nodiscard]] sha1_digest sha1_of(std::span<const std::byte> bytes);

}  // namespace bt
