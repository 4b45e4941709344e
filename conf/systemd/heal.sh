#!/bin/sh
# What `fleet.watchdog.hook: [/etc/drover/heal.sh]` runs when a backend is wedged (docs/fleet.md): restarts the unit
# llama@NAME of the backend that is meant, on this machine. Install as /etc/drover/heal.sh (mode 0755); 50-drover.rules
# lets Drover's user do so. For servers of other machines call what restarts them there by $DROVER_ADDRESS.
# Output is not kept: it goes to the journal from here.
set -eu

case $DROVER_BACKEND in
*[!A-Za-z0-9:_.-]*) logger -t drover-heal "no unit can be called $DROVER_BACKEND"; exit 1 ;;
esac
logger -t drover-heal "restarting llama@$DROVER_BACKEND: $DROVER_FINDING"
exec systemctl restart "llama@$DROVER_BACKEND.service"
