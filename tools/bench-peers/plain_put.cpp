// The program people write first: accept, read the head, then recv 256 KiB and write it, until the
// body is there; fdatasync, rename, sync of the directory, answer. One connection at a time,
// blocking calls, the page cache. What sluiced is compared with; it speaks just enough HTTP for
// `curl -T`.
//
//   plain_put DIRECTORY       prints `listening on 127.0.0.1:PORT`
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t chunk_bytes = 256 * 1024;

bool send_all(int peer, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(peer, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool write_all(int file, const char* from, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::write(file, from, bytes);
    if (written <= 0) return false;
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

std::uint64_t content_length(const std::string& head) {
  const std::size_t at = head.find("Content-Length: ");
  return at == std::string::npos ? 0 : std::strtoull(head.c_str() + at + 16, nullptr, 10);
}

// The head, and in `rest` what came behind it; empty when the peer went away.
std::string read_head(int peer, std::vector<char>& buffer, std::string& rest) {
  std::string head;
  while (true) {
    const ssize_t got = ::recv(peer, buffer.data(), 8192, 0);
    if (got <= 0) return {};
    head.append(buffer.data(), static_cast<std::size_t>(got));
    const std::size_t end = head.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    rest = head.substr(end + 4);
    head.resize(end + 4);
    return head;
  }
}

bool receive_body(int peer, int file, std::vector<char>& buffer, const std::string& rest,
                  std::uint64_t length) {
  if (!write_all(file, rest.data(), rest.size())) return false;
  for (std::uint64_t left = length - rest.size(); left > 0;) {
    const std::size_t wanted = left < chunk_bytes ? static_cast<std::size_t>(left) : chunk_bytes;
    const ssize_t got = ::recv(peer, buffer.data(), wanted, 0);
    if (got <= 0 || !write_all(file, buffer.data(), static_cast<std::size_t>(got))) return false;
    left -= static_cast<std::uint64_t>(got);
  }
  return true;
}

bool serve(int peer, int directory, std::vector<char>& buffer) {
  std::string rest;
  const std::string head = read_head(peer, buffer, rest);
  if (head.empty()) return false;
  const std::size_t from = head.find('/') + 1;
  const std::string name = head.substr(from, head.find(' ', from) - from);
  if (head.find("100-continue") != std::string::npos)
    send_all(peer, "HTTP/1.1 100 Continue\r\n\r\n");
  const int file =
      ::openat(directory, "upload.tmp", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  const bool done = file >= 0 && receive_body(peer, file, buffer, rest, content_length(head)) &&
                    ::fdatasync(file) == 0 &&
                    ::renameat(directory, "upload.tmp", directory, name.c_str()) == 0 &&
                    ::fsync(directory) == 0;
  if (file >= 0) ::close(file);
  return done && send_all(peer, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: plain_put DIRECTORY\n");
    return 2;
  }
  const int directory = ::open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  if (directory < 0 || ::bind(listener, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      ::listen(listener, 16) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
    std::perror("plain_put");
    return 1;
  }
  std::printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  std::vector<char> buffer(chunk_bytes);
  while (true) {
    const int peer = ::accept(listener, nullptr, nullptr);
    if (peer < 0) return 1;
    while (serve(peer, directory, buffer)) {
    }
    ::close(peer);
  }
}
