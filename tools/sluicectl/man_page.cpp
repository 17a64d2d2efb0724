#include <string>
#include <string_view>

#include "output.hpp"
#include "sluice/knobs.hpp"

namespace sluicectl {

namespace {

using sluice::knob_info;
using sluice::knob_when;
using sluice::knobs;

// Text for troff(1): no escapes, no hyphens that a reader could not paste, no line that is a
// request.
std::string troff(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\')
      safe += "\\e";
    else if (c == '-')
      safe += "\\-";
    else
      safe += c;
  }
  return safe.starts_with('.') || safe.starts_with('\'') ? "\\&" + safe : safe;
}

constexpr std::string_view man_head = R"(.TH SLUICE.CONF 5 "" "sluice {0}" "File formats"
.SH NAME
sluice.conf \- knobs of the sluice engine
.SH SYNOPSIS
/etc/sluice.d/*.conf
.br
/run/sluice.d/*.conf
.br
/usr/lib/sluice.d/*.conf
.SH DESCRIPTION
An engine that reads its settings from files takes every line
.IR "name " = " value"
of these files, by the rules of
.BR sysctl.d (5):
files apply in the order of their names whatever their directory, a later line wins, and a file
in /etc hides one of the same name in /run, which hides one in /usr/lib.
A symbolic link to /dev/null only hides.
Lines that begin with # or ; are comments; a name that begins with \- has its errors ignored.
.PP
The environment wins over the files: SLUICE_RECEIVE_PATH sets sluice.receive.path.
.PP
A value out of range is refused and changes nothing.
Values counted in bytes take the suffixes K, M, G and T, powers of 1024.
.SH KNOBS
)";

constexpr std::string_view man_tail = R"(.SH SEE ALSO
.BR sysctl (8),
.BR sysctl.d (5),
.BR io_uring (7)
)";

}  // namespace

void print_man_page() {
  fmt::print(fmt::runtime(man_head), SLUICE_VERSION);
  for (const knob_info& info : knobs().list()) {
    const std::string initial = info.initial.empty() ? "empty" : info.initial;
    fmt::print(".TP\n.B {}\n{}\n.br\nRange: {}. Default: {}. Set: {}.\n", troff(info.name),
               troff(info.help), troff(range_text(info)), troff(initial),
               info.when == knob_when::live ? "at any time" : "before the engine starts");
  }
  fmt::print("{}", man_tail);
}

}  // namespace sluicectl
