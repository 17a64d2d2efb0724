#include "sha1.hpp"

namespace bt {

sha1::sha1() : context_(EVP_MD_CTX_new()) {
  sound_ = context_ && EVP_DigestInit_ex(context_.get(), EVP_sha1(), nullptr) == 1;
}

void sha1::update(std::span<const std::byte> bytes) {
  sound_ = sound_ && EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
}

sha1_digest sha1::finish() {
  sha1_digest digest{};
  if (!sound_) return digest;
  auto* out = reinterpret_cast<unsigned char*>(digest.data());
  if (EVP_DigestFinal_ex(context_.get(), out, nullptr) != 1) digest = {};
  sound_ = EVP_DigestInit_ex(context_.get(), nullptr, nullptr) == 1;
  return digest;
}

sha1_digest sha1_of(std::span<const std::byte> bytes) {
  sha1 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace bt
