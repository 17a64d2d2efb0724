// One connection of the load generator: a request with its payload, and the answer to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "pattern.hpp"

namespace bench {

enum class dialect : std::uint8_t { wire, http };
enum class direction : std::uint8_t { upload, download };

// What every request of a run looks like.
struct request_form {
  dialect speaks = dialect::wire;
  direction towards = direction::upload;
  std::uint64_t object_bytes = 0;
  std::string target = "source";  // http downloads: the name asked for
  bool verify = false;            // downloads: compare every byte, which costs time
};

// The wire: 8 bytes of little-endian length and the payload, answered by 'k'; or 8 bytes of length,
// answered by the payload. HTTP/1.1: PUT /obj-NUMBER and GET /TARGET over keep-alive connections.
class exchange {
 public:
  enum class status : std::uint8_t { more, done, failed };

  // `into` is shared by all connections: where received bytes go, hot in the cache. Takes over fd.
  exchange(const request_form& form, const pattern& payload, std::span<std::byte> into, int fd);
  exchange(exchange&& other) noexcept;
  exchange(const exchange&) = delete;
  exchange& operator=(const exchange&) = delete;
  exchange& operator=(exchange&&) = delete;
  ~exchange();

  void begin(std::uint64_t id);
  // more: the socket takes no more now. done: the whole request is out.
  [[nodiscard]] status send();
  // more: nothing left to receive now. done: the answer is complete.
  [[nodiscard]] status receive();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] bool sent() const { return head_at_ == head_.size() && payload_left_ == 0; }
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] const std::string& answer_head() const { return answer_; }  // http only

 private:
  status fail(std::string why);
  status take(std::span<const std::byte> got);
  status take_head(std::span<const std::byte> got);
  status take_body(std::span<const std::byte> got);

  const request_form* form_;
  const pattern* payload_;
  std::span<std::byte> into_;
  int fd_;
  std::uint64_t id_ = 0;
  std::string head_;
  std::size_t head_at_ = 0;
  std::uint64_t payload_left_ = 0;
  std::string answer_;
  bool in_body_ = false;
  std::uint64_t body_at_ = 0;
  std::uint64_t body_bytes_ = 0;
  std::string problem_;
};

}  // namespace bench
