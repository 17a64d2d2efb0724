#!/usr/bin/python3
"""libtorrent as the seeder of sluice-bench's case torrent, and as the client beside sluice-bt.

  libtorrent_peer.py seed TORRENT DIR            prints `listening on ADDR:PORT` and runs on
  libtorrent_peer.py get TORRENT DIR ADDR:PORT   prints `ready` when it calls the seeder, which it
                                                 does by a tick of half a second, fetches, prints
                                                 `done`, and ends when its files are closed

Fair settings: a session as libtorrent makes it (disk I/O, hashing threads, queues, buffers, no rate
limits), but TCP alone, no encryption, and nothing that looks for other peers; both ends alike. The
interpreter only waits. (Debian's python3-libtorrent is for the python of its own in /usr/bin.)
"""

import os
import signal
import sys

try:
    import libtorrent as lt
except ImportError:
    sys.exit('python3-libtorrent is not here')


def session():
    made = lt.session({
        'listen_interfaces': '127.0.0.1:0', 'enable_dht': False, 'enable_lsd': False,
        'enable_upnp': False, 'enable_natpmp': False, 'enable_incoming_utp': False,
        'enable_outgoing_utp': False, 'out_enc_policy': int(lt.enc_policy.disabled),
        'in_enc_policy': int(lt.enc_policy.disabled), 'allow_multiple_connections_per_ip': True,
        'alert_mask': lt.alert.category_t.status_notification
        | lt.alert.category_t.storage_notification | lt.alert.category_t.connect_notification
        | lt.alert.category_t.error_notification})
    wait_for(made, lt.listen_succeeded_alert)
    return made


seen = set()  # kinds of alerts that came before they were waited for


def wait_for(of, kind):
    while kind not in seen:
        of.wait_for_alert(1000)
        for alert in of.pop_alerts():
            if isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
                sys.exit(alert.message())
            seen.add(type(alert))


def add(to, torrent, folder):
    """Its handle, once what is in the folder has been looked at."""
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent)
    wanted.save_path = folder
    wanted.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    handle = to.add_torrent(wanted)
    wait_for(to, lt.torrent_checked_alert)
    return handle


def seed(torrent, folder):
    # Not in seed_mode, which hashes each piece when it is first asked for: the first would pay.
    home = session()
    if not add(home, torrent, folder).status().is_seeding:
        sys.exit(f'{folder} does not hold what {torrent} says')
    print(f'listening on 127.0.0.1:{home.listen_port()}', flush=True)
    signal.pause()


def get(torrent, folder, seeder):
    host, _, port = seeder.rpartition(':')
    home = session()
    handle = add(home, torrent, folder)
    handle.connect_peer((host, int(port)))
    wait_for(home, lt.peer_connect_alert)
    print('ready', flush=True)
    wait_for(home, lt.torrent_finished_alert)
    print('done', flush=True)
    handle.flush_cache()
    wait_for(home, lt.cache_flushed_alert)
    os._exit(0)


if __name__ == '__main__':
    {'seed': seed, 'get': get}[sys.argv[1]](*sys.argv[2:])
