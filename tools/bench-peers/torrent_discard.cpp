// A BitTorrent peer that asks for every block and throws it away: what a seeder can send.
//
//   torrent_discard FILE.torrent ADDR:PORT
//
// Fair settings: one thread, blocking calls into one hot buffer, no digest, no file; 500 requests
// under way, as many as libtorrent asks for, topped up by an eighth of them in one send.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "torrent_file.hpp"
#include "wire.hpp"

namespace {

constexpr std::uint64_t asked_max = 500;
constexpr std::uint64_t asked_at_once = asked_max / 8;
constexpr std::size_t buffer_bytes = 256 << 10;
constexpr timeval patience{.tv_sec = 60, .tv_usec = 0};

int connect_to(const std::string& place) {
  const std::size_t colon = place.rfind(':');
  if (colon == std::string::npos) return -1;
  std::uint16_t port = 0;
  std::from_chars(place.data() + colon + 1, place.data() + place.size(), port);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, place.substr(0, colon).c_str(), &address.sin_addr) != 1) return -1;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? fd : -1;
}

class leech {
 public:
  leech(int fd, const bt::metainfo& of) : fd_(fd), info_hash_(of.info_hash), where_(of.layout()) {}

  // False: the connection ended, or broke, before the last block.
  bool run() {
    if (!greet()) return false;
    bt::append_message(out_, bt::message_kind::interested);
    std::vector<std::byte> buffer(buffer_bytes);
    while (got_bytes_ < where_.total_bytes()) {
      if (!ask()) return false;
      const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (got <= 0) return false;
      look_at(std::span(buffer).first(static_cast<std::size_t>(got)));
    }
    return true;
  }

 private:
  bool greet() {
    bt::handshake ours{.info_hash = info_hash_, .id = {}};
    std::ranges::fill(ours.id, std::byte{'d'});
    std::array<std::byte, bt::handshake_bytes> bytes = bt::write_handshake(ours);
    if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != std::ssize(bytes)) return false;
    return ::recv(fd_, bytes.data(), bytes.size(), MSG_WAITALL) == std::ssize(bytes);
  }

  // Sends what is to be sent; false: it cannot.
  bool ask() {
    const std::uint64_t under_way = asked_blocks_ - got_bytes_ / bt::block_bytes;
    if (unchoked_ && under_way + asked_at_once <= asked_max) {
      for (std::uint64_t left = asked_max - under_way; left > 0 && ask_next(); --left) continue;
    }
    const auto bytes = static_cast<ssize_t>(out_.size());
    const bool sent = bytes == 0 || ::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL) == bytes;
    out_.clear();
    return sent;
  }

  // False: all has been asked for.
  bool ask_next() {
    if (piece_ == where_.pieces()) return false;
    const auto bytes = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(bt::block_bytes, where_.bytes_of(piece_) - begin_));
    bt::append_request(out_, bt::message_kind::request, piece_, begin_, bytes);
    ++asked_blocks_;
    begin_ += bytes;
    if (begin_ == where_.bytes_of(piece_)) {
      ++piece_;
      begin_ = 0;
    }
    return true;
  }

  // Heads may come in parts, and payloads do.
  void look_at(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      if (left_ > 0) {
        const std::size_t passed = std::min<std::size_t>(left_, bytes.size());
        if (payload_) got_bytes_ += passed;
        left_ -= static_cast<std::uint32_t>(passed);
        bytes = bytes.subspan(passed);
        continue;
      }
      head_[head_bytes_++] = bytes.front();
      bytes = bytes.subspan(1);
      take_head();
    }
  }

  // The length and the kind; of a block its place too.
  void take_head() {
    if (head_bytes_ < sizeof(std::uint32_t)) return;
    std::uint32_t length = 0;
    std::memcpy(&length, head_.data(), sizeof length);
    length = ntohl(length);
    const auto kind = static_cast<bt::message_kind>(head_[sizeof length]);
    const bool whole = length == 0 || head_bytes_ > sizeof length;
    payload_ = whole && length > 0 && kind == bt::message_kind::piece;
    if (!whole || (payload_ && head_bytes_ < bt::piece_head_bytes)) return;
    if (length > 0 && kind == bt::message_kind::unchoke) unchoked_ = true;
    left_ = length + static_cast<std::uint32_t>(sizeof length - head_bytes_);
    head_bytes_ = 0;
  }

  const int fd_;
  const bt::sha1_digest info_hash_;
  const bt::layout where_;
  bool unchoked_ = false;
  std::vector<std::byte> out_;
  std::uint32_t piece_ = 0;  // to be asked for next, and where in it
  std::uint64_t asked_blocks_ = 0;
  std::uint32_t begin_ = 0;
  std::array<std::byte, bt::piece_head_bytes> head_{};  // what has come of a message's
  std::size_t head_bytes_ = 0;
  std::uint32_t left_ = 0;  // of a message after its head
  bool payload_ = false;    // what is left is a block's
  std::uint64_t got_bytes_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: torrent_discard FILE.torrent ADDR:PORT\n");
    return 2;
  }
  const auto of = bt::read_torrent(argv[1]);
  if (!of) {
    fmt::print(stderr, "torrent_discard: {}\n", of.error());
    return 1;
  }
  const int fd = connect_to(argv[2]);
  if (fd < 0) {
    fmt::print(stderr, "torrent_discard: cannot connect to {}\n", argv[2]);
    return 1;
  }
  const bool whole = leech(fd, *of).run();
  ::close(fd);
  if (!whole) fmt::print(stderr, "torrent_discard: the seeder went away, or is silent\n");
  return whole ? 0 : 1;
}
