#include "exchange.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace bench {

namespace {

constexpr std::size_t answer_head_bytes_max = 16 * 1024;

std::string head_of(const request_form& form, std::uint64_t id) {
  if (form.speaks == dialect::wire) {
    std::string length(8, '\0');
    for (std::size_t i = 0; i < length.size(); ++i) {
      length[i] = static_cast<char>((form.object_bytes >> (8 * i)) & 0xff);
    }
    return length;
  }
  if (form.towards == direction::download) {
    return fmt::format("GET /{} HTTP/1.1\r\nHost: bench\r\n\r\n", form.target);
  }
  return fmt::format("PUT /obj-{} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", id,
                     form.object_bytes);
}

// The value of Content-Length in an answer's head; 0 without one.
std::uint64_t content_length(const std::string& head) {
  static constexpr std::string_view name = "\r\ncontent-length:";
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  const auto at = std::search(head.begin(), head.end(), name.begin(), name.end(), same);
  if (at == head.end()) return 0;
  return std::strtoull(&*at + name.size(), nullptr, 10);
}

}  // namespace

exchange::exchange(const request_form& form, const pattern& payload, std::span<std::byte> into,
                   int fd)
    : form_(&form), payload_(&payload), into_(into), fd_(fd) {}

exchange::exchange(exchange&& other) noexcept
    : form_(other.form_),
      payload_(other.payload_),
      into_(other.into_),
      fd_(std::exchange(other.fd_, -1)) {}

exchange::~exchange() {
  if (fd_ >= 0) ::close(fd_);
}

void exchange::begin(std::uint64_t id) {
  // The head of every download is the same: made once.
  if (form_->towards == direction::upload || head_.empty()) head_ = head_of(*form_, id);
  id_ = id;
  head_at_ = 0;
  payload_left_ = form_->towards == direction::upload ? form_->object_bytes : 0;
  answer_.clear();
  in_body_ = form_->speaks == dialect::wire;
  body_at_ = 0;
  body_bytes_ = form_->towards == direction::download ? form_->object_bytes : 1;
}

exchange::status exchange::fail(std::string why) {
  problem_ = std::move(why);
  return status::failed;
}

exchange::status exchange::send() {
  while (!sent()) {
    const std::uint64_t at = form_->object_bytes - payload_left_;
    const std::span<const std::byte> piece = payload_->piece(id_, at, payload_left_);
    std::array<iovec, 2> parts = {
        iovec{head_.data() + head_at_, head_.size() - head_at_},
        iovec{const_cast<std::byte*>(piece.data()), piece.size()},
    };
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent_now = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent_now < 0 && errno == EINTR) continue;
    if (sent_now < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return status::more;
    if (sent_now < 0) return fail(fmt::format("send: {}", std::strerror(errno)));
    const std::size_t of_head =
        std::min<std::size_t>(static_cast<std::size_t>(sent_now), parts[0].iov_len);
    head_at_ += of_head;
    payload_left_ -= static_cast<std::uint64_t>(sent_now) - of_head;
  }
  return status::done;
}

exchange::status exchange::receive() {
  while (true) {
    const ssize_t got = ::recv(fd_, into_.data(), into_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return status::more;
    if (got < 0) return fail(fmt::format("recv: {}", std::strerror(errno)));
    if (got == 0) return fail("the server closed the connection");
    const status so_far = take(into_.first(static_cast<std::size_t>(got)));
    if (so_far != status::more) return so_far;
  }
}

exchange::status exchange::take(std::span<const std::byte> got) {
  return in_body_ ? take_body(got) : take_head(got);
}

exchange::status exchange::take_head(std::span<const std::byte> got) {
  const std::size_t before = answer_.size();
  answer_.append(reinterpret_cast<const char*>(got.data()),
                 std::min(got.size(), answer_head_bytes_max));
  const std::size_t end = answer_.find("\r\n\r\n");
  if (end == std::string::npos) {
    return answer_.size() < answer_head_bytes_max ? status::more : fail("endless answer head");
  }
  answer_.resize(end + 4);
  if (answer_.size() < 12 || answer_[9] != '2') {
    return fail("answered: " + answer_.substr(0, answer_.find('\r')));
  }
  const std::uint64_t length = content_length(answer_);
  if (form_->towards == direction::download && length != form_->object_bytes) {
    return fail(fmt::format("answered with {} bytes instead of {}", length, form_->object_bytes));
  }
  in_body_ = true;
  body_bytes_ = length;
  return take_body(got.subspan(answer_.size() - before));
}

exchange::status exchange::take_body(std::span<const std::byte> got) {
  if (body_at_ + got.size() > body_bytes_) return fail("more bytes than were promised");
  if (form_->towards == direction::upload && form_->speaks == dialect::wire) {
    if (got[0] != std::byte{'k'}) return fail("the server answered that it failed");
  } else if (form_->verify && !payload_->matches(0, body_at_, got)) {
    return fail(fmt::format("wrong bytes in [{}, {})", body_at_, body_at_ + got.size()));
  }
  body_at_ += got.size();
  return body_at_ == body_bytes_ ? status::done : status::more;
}

}  // namespace bench
