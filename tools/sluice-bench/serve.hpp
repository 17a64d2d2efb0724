// `sluice-bench serve` and `sluice-bench sink`: the servers that are measured, as processes of
// their own.
#pragma once

namespace bench {

// Our receiver and sender behind the peers' wire: one engine, public headers only. Prints
// `listening on ADDR:PORT`; on SIGTERM one line of JSON with the receipt and the counters.
int serve_main(int argc, char** argv);

// The network alone: discards what it receives, or sends from one hot buffer.
int sink_main(int argc, char** argv);

}  // namespace bench
